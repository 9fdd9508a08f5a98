import { expect } from 'chai';
import { connect, type LiveEvent } from '../../src/client/client.ts';
import { CuttingProxy } from '../support/cutting-proxy.ts';
import { LiveClient } from '../support/live-client.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makeEscrow, makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';

describe('the client, connected to the service', function () {
  this.timeout(120_000);
  let stage: Stage;
  let payer: Person;
  let stream: string;
  let topic: string;
  const clients: LiveClient[] = [];

  before(async () => {
    stage = await Stage.open({ RETRY_MS: '10' });
    payer = await makePerson(stage.pool, 1);
    stream = await makeStream(stage.pool, payer, await makePerson(stage.pool, 2));
    topic = `stream:${stream}`;
    // Ids of four digits all the way, so that blocks are equally long.
    await stage.pool.query("select setval('outbox_id_seq', 1000)");
    await stage.settled();
  });
  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
  });
  after(() => stage.close());

  function follow(url = stage.service.url, more: { topics?: string[]; cursor?: number } = {}): LiveClient {
    const client = new LiveClient({
      url,
      credentials: { bearer: () => payer.token },
      topics: [topic],
      longestPauseMs: 300,
      ...more,
    });
    clients.push(client);
    return client;
  }

  async function change(count = 1): Promise<number> {
    for (let step = 0; step < count; step += 1)
      await stage.pool.query('update streams set total_amount = 2500 - total_amount where id = $1', [stream]);
    return (await outboxIds(stage.pool)).at(-1) ?? 0;
  }

  it('hands on what is committed, typed, and says what it is doing', async () => {
    const client = follow(undefined, { topics: [] });
    const totals: string[] = [];
    client.connection.on('stream:updated', ({ data }) => totals.push(data.totalAmount));
    await client.is('live');
    await client.has(await change());
    expect(totals).to.have.length(1);
    expect(totals[0]).to.match(/^\d+\.\d{9}$/);
    expect(client.types).to.deep.equal(['stream:updated']);
    expect(client.statuses).to.deep.equal([
      { state: 'connecting' },
      { state: 'replaying' },
      { state: 'live' },
    ]);
    expect(client.connection.cursor).to.equal(client.ids[0]);
    expect(client.connection.session?.topics).to.include(topic);
  });

  it('begins after the cursor that it is given', async () => {
    const start = stage.cursor;
    const last = await change(3);
    const client = follow(undefined, { cursor: start });
    await client.has(last);
    expect(client.ids).to.deep.equal(await outboxIds(stage.pool, [topic], start));
  });

  it("hands on events of one's own types, and stops where it is told", async () => {
    const connection = connect<{ 'test:happened': { n: number } }>({
      url: stage.service.url,
      credentials: { bearer: async () => payer.token },
      topics: [topic],
    });
    const numbers: number[] = [];
    const all: LiveEvent<{ 'test:happened': { n: number } }>[] = [];
    const off = connection.on('test:happened', ({ data }) => {
      numbers.push(data.n);
      if (numbers.length === 2) off();
    });
    connection.on('event', (event) => all.push(event));
    await waitFor(() => connection.status.state === 'live', { what: 'live' });
    await stage.commit(topic, 3);
    await waitFor(() => all.length === 3, { what: 'all three' });
    expect(numbers).to.deep.equal([1, 2]);
    const [first] = all;
    expect(first?.type === 'test:happened' && first.data.n).to.equal(1);
    connection.close();
  });

  it('is told of an event that was too big, by its type and size', async () => {
    const client = follow();
    const oversize: unknown[] = [];
    client.connection.on('oversize', (it) => oversize.push(it));
    await client.is('live');
    await stage.commit(topic, 1, 20_000);
    const next = await change();
    await client.has(next);
    expect(client.ids).to.deep.equal([next]);
    const { rows } = await stage.pool.query('select id, data from outbox order by id desc offset 1 limit 1');
    expect(oversize).to.deep.equal([{ id: rows[0].id, type: 'test:happened', bytes: rows[0].data.bytes }]);
  });

  it('cut at every byte of a block: nothing is lost or repeated', async () => {
    await stage.commit(topic);
    const start = await stage.settled();
    const proxy = await CuttingProxy.start(stage.service.url);
    const client = follow(proxy.url);
    await client.is('live');
    const { rows } = await stage.pool.query<{ length: number }>(
      `select octet_length(format(E'event: %s\\ndata: %s\\nid: %s\\n\\n', type, data, id)) as length from outbox order by id desc limit 1`,
    );
    const length = rows[0]?.length ?? 0;
    expect(length).to.be.above(40);
    for (let offset = 0; offset <= length; offset += 1) {
      const before = client.timesLive;
      proxy.cutAt(offset);
      await stage.commit(topic);
      await waitFor(() => client.timesLive > before, { what: `a cut at ${offset} and a return` });
    }
    await client.has(await change());
    expect(client.ids).to.deep.equal(await outboxIds(stage.pool, [topic], start));
    expect(client.connection.duplicates).to.equal(0);
    await proxy.stop();
  });

  it('killed in the middle of a stream, and drained by a deploy: nothing is lost or repeated', async () => {
    const service = await ServiceProcess.start(stage.database.url);
    const start = await stage.settled();
    const client = follow(service.url);
    await client.is('live');
    const writing = change(100);
    await waitFor(() => client.ids.length >= 20, { what: 'the middle' });
    await service.kill();
    await writing;
    await service.start();
    await client.has(await change(3));
    const more = change(60);
    await service.terminate();
    await service.start();
    await more;
    await client.has(await change());
    expect(client.ids).to.deep.equal(await outboxIds(stage.pool, [topic], start));
    expect(client.connection.duplicates).to.equal(0);
    expect(client.reasons).to.include('draining');
    expect(client.reasons.some((reason) => reason === 'network' || reason === 'ended')).to.equal(true);
    await service.kill();
  });

  it('comes back with its resume token, without a look at the database or at its credential', async () => {
    const start = stage.cursor;
    let asked = 0;
    const bearer = (): string => {
      asked += 1;
      return payer.token;
    };
    const client = new LiveClient({ url: stage.service.url, credentials: { bearer }, topics: [topic] });
    clients.push(client);
    await client.is('live');
    for (let times = 1; times <= 3; times += 1) {
      for (const subscriber of stage.service.hub.subscribers) subscriber.end('max_age');
      await change();
      await waitFor(() => client.timesLive === times + 1, { what: 'its return' });
    }
    await client.has(await change());
    expect(client.ids).to.deep.equal(await outboxIds(stage.pool, [topic], start));
    expect(asked).to.equal(1);
  });

  it('takes a ticket for a credential, and comes back when it was for other topics than it names', async () => {
    const ticket = async (): Promise<string> => {
      const answer = await fetch(`${stage.service.url}/v1/tickets`, {
        method: 'POST',
        headers: { Authorization: `Bearer ${payer.token}` },
        body: JSON.stringify({ topics: [topic] }),
      });
      return ((await answer.json()) as { ticket: string }).ticket;
    };
    const start = stage.cursor;
    const client = new LiveClient({ url: stage.service.url, credentials: { ticket } });
    clients.push(client);
    await client.is('live');
    for (const subscriber of stage.service.hub.subscribers) subscriber.end('max_age');
    await waitFor(() => client.timesLive === 2, { what: 'its return' });
    await client.has(await change());
    expect(client.ids).to.deep.equal(await outboxIds(stage.pool, [topic], start));
  });

  it('tells of a reset, and goes on from where the server does', async () => {
    const client = follow(undefined, { cursor: 900_000 });
    await client.is('live');
    expect(client.resets).to.deep.equal([
      { reason: 'ahead', requested: 900_000, oldest: client.resets[0]?.oldest, cursor: stage.cursor },
    ]);
    const next = await change();
    await client.has(next);
    expect(client.ids).to.deep.equal([next]);
    expect(client.connection.cursor).to.equal(next);
  });

  it('stops for good when access is taken away, and when there is none', async () => {
    const escrow = `escrow:${await makeEscrow(stage.pool, payer)}`;
    await stage.settled();
    const client = follow(undefined, { topics: [escrow] });
    await client.is('live');
    const { rows } = await stage.pool.query('select id from users where id <> $1 limit 1', [payer.id]);
    await stage.pool.query('update escrows set creator_id = $2 where id = $1', [escrow.slice(7), rows[0].id]);
    expect(await client.is('closed')).to.deep.equal({ state: 'closed', reason: 'access_revoked' });
    const second = follow(undefined, { topics: [escrow] });
    expect(await second.is('closed')).to.deep.equal({ state: 'closed', reason: 'forbidden' });
    const third = follow(undefined, { topics: ['nonsense'] });
    expect(await third.is('closed')).to.deep.equal({ state: 'closed', reason: 'invalid_topic' });
  });

  it('gives its place back when it is closed, and says nothing more', async () => {
    const client = follow();
    await client.is('live');
    const [subscriber] = stage.service.hub.subscribers;
    client.close();
    client.close();
    expect(client.statuses.slice(-2)).to.deep.equal([
      { state: 'live' },
      { state: 'closed', reason: 'closed' },
    ]);
    await waitFor(() => ![...stage.service.hub.subscribers].some((it) => it === subscriber), {
      what: 'the end',
    });
    await change();
    expect(client.ids).to.deep.equal([]);
  });
});
