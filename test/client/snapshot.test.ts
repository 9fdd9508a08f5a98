import { expect } from 'chai';
import {
  type Connection,
  type Snapshot,
  snapshotThenSubscribe,
  takeSnapshot,
} from '../../src/client/client.ts';
import { Refusal } from '../../src/client/door.ts';
import { LiveClient } from '../support/live-client.ts';
import { LockQueue } from '../support/lock-queue.ts';
import { ScriptedServer } from '../support/scripted-server.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, type Person } from '../support/world.ts';

describe("the client's snapshot, then its events", () => {
  let stage: Stage;
  let payer: Person;
  let stream: string;
  let topic: string;
  let snapshots: Snapshot[];
  /** What an application would show. */
  let total: string;
  const open: (Connection | LiveClient)[] = [];

  before(async () => {
    stage = await Stage.open({ RETRY_MS: '10' });
    payer = await makePerson(stage.pool, 1);
    stream = await makeStream(stage.pool, payer, await makePerson(stage.pool, 2));
    topic = `stream:${stream}`;
    await stage.settled();
  });
  beforeEach(() => {
    snapshots = [];
  });
  afterEach(() => {
    for (const connection of open.splice(0)) connection.close();
  });
  after(() => stage.close());

  function follow(url = stage.service.url, more = {}): LiveClient {
    const credentials = { bearer: () => payer.token };
    const client = new LiveClient({ url, credentials, topics: [topic], ...more }, (options) =>
      snapshotThenSubscribe({ ...options, credentials }, (snapshot) => {
        snapshots.push(snapshot);
        const state = snapshot.topics[topic];
        if (state && 'totalAmount' in state) total = state.totalAmount;
      }),
    );
    client.connection.on('stream:updated', ({ data }) => {
      total = data.totalAmount;
    });
    open.push(client);
    return client;
  }

  async function set(amount: number): Promise<void> {
    await stage.pool.query('update streams set total_amount = $2 where id = $1', [stream, amount]);
  }

  const shows = (amount: string): Promise<unknown> =>
    waitFor(() => Number(total) === Number(amount), { what: amount });

  it('shows what the database holds, while it is being written', async () => {
    const writing = (async () => {
      for (let amount = 5000; amount < 5100; amount += 1) await set(amount);
    })();
    const client = follow();
    await client.is('live');
    await writing;
    await shows('5099');
    expect(snapshots).to.have.length(1);
    const [{ cursor = 0 } = {}] = snapshots;
    expect(client.ids.every((id) => id > cursor)).to.equal(true);
    // The state and the events after it make up everything: no hole between them.
    const { rows } = await stage.pool.query<{ id: number }>(
      'select id from outbox where id > $1 order by id',
      [cursor],
    );
    expect(client.ids).to.deep.equal(rows.map(({ id }) => id));
  });

  for (const shared of [false, true]) {
    it(`takes the state again after a reset${shared ? ', on a shared connection' : ''}`, async () => {
      const client = follow(undefined, shared ? { share: 'me', locks: new LockQueue() } : {});
      await client.is('live');
      await stage.pool.query('select outbox_new_epoch()');
      await set(6000 + Number(shared));
      stage.service.hub.subscribers[Symbol.iterator]().next().value?.end('max_age');
      await waitFor(() => client.resets.length === 1 && snapshots.length === 2, {
        what: 'the second snapshot',
      });
      await shows(String(6000 + Number(shared)));
      await set(7000 + Number(shared));
      await shows(String(7000 + Number(shared)));
      expect(client.resets[0]?.reason).to.equal('epoch');
    });
  }

  it('takes the state again when an event was too big to travel', async () => {
    const client = follow();
    await client.is('live');
    await stage.commit(topic, 1, 20_000);
    await waitFor(() => snapshots.length === 2, { what: 'the second snapshot' });
    await set(8000);
    await shows('8000');
  });

  it('says why there is no state yet, and asks again', async () => {
    const server = await ScriptedServer.start([
      {
        status: 503,
        headers: { 'Content-Type': 'application/problem+json' },
        body: '{"code":"unavailable"}',
      },
      {
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ cursor: 5, epoch: 'e', topics: { [topic]: null } }),
      },
      { ending: 'stay', body: ':\n' },
    ]);
    const client = follow(server.origin, { random: () => 0 });
    expect((await server.request(3)).lastEventId).to.equal('5');
    expect(server.asked.map(({ url }) => url.split('?')[0])).to.deep.equal([
      '/v1/snapshot',
      '/v1/snapshot',
      '/v1/events',
    ]);
    expect(client.reasons).to.deep.equal(['unavailable']);
    client.close();
    await server.stop();
  });

  it('is closed when the state is refused for good', async () => {
    const client = follow(undefined, { topics: [`user:${stream}`] });
    expect(await client.is('closed')).to.deep.equal({ state: 'closed', reason: 'forbidden' });
    expect(snapshots).to.deep.equal([]);
  });

  it('is closed while it takes the state: the state is not handed on', async () => {
    const client = follow();
    client.close();
    await stage.publish(topic);
    const later = follow();
    await later.is('live');
    expect(snapshots).to.have.length(1);
    expect(client.statuses).to.deep.equal([{ state: 'closed', reason: 'closed' }]);
  });

  it('says nothing more when it is closed while the state is on its way', async () => {
    const server = await ScriptedServer.start([
      { headers: { 'Content-Type': 'application/json' }, body: '{', ending: 'stay' },
    ]);
    const client = follow(server.origin);
    await server.request(1);
    client.close();
    await waitFor(() => server.open === 0, { what: 'the request to be given up' });
    await new Promise(setImmediate);
    expect(client.statuses).to.deep.equal([{ state: 'closed', reason: 'closed' }]);
    await server.stop();
  });

  it('can be taken alone, and says why it cannot', async () => {
    const options = { url: stage.service.url, credentials: { bearer: () => payer.token } };
    const { topics } = await takeSnapshot(options);
    expect(Object.keys(topics)).to.have.members([`user:${payer.id}`, `wallet:${payer.wallet}`]);
    for (const [more, reason] of [
      [{ credentials: { bearer: () => 'x' } }, 'unauthenticated'],
      [{ url: 'http://127.0.0.1:1' }, 'network'],
    ] as const) {
      const error = await takeSnapshot({ ...options, ...more }).catch((it: unknown) => it);
      expect(error)
        .to.be.instanceOf(Refusal)
        .and.to.include({ reason, final: reason === 'unauthenticated' });
    }
  });
});
