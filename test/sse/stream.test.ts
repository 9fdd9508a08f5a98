import { expect } from 'chai';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, type Person } from '../support/world.ts';

describe('a stream on the wire', () => {
  let stage: Stage;
  let payer: Person;
  let stranger: Person;
  let topic: string;
  let path: string;
  let random = 0.25;
  /** Two events before the head. */
  let past: number;

  before(async () => {
    stage = await Stage.open({ HEARTBEAT_SECONDS: '0.1', RETRY_MS: '1000' }, { random: () => random });
    payer = await makePerson(stage.pool, 1);
    stranger = await makePerson(stage.pool, 2);
    const stream = await makeStream(stage.pool, payer, payer);
    topic = `stream:${stream}`;
    path = `/v1/streams/${stream}/events`;
    past = await stage.settled();
    await stage.publish(topic, 2);
  });

  after(() => stage.close());

  it('answers with the headers that keep a stream a stream', async () => {
    const client = await stage.connect(path, payer.token);
    expect(client.status).to.equal(200);
    expect(client.response?.headers).to.include({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
      'last-event-id': String(stage.cursor),
    });
    expect(client.response?.headers).not.to.have.any.keys('content-length', 'content-encoding', 'etag');
  });

  it('names the cursor it starts from in the head, even when that lies in the past', async () => {
    const client = await stage.connect(path, payer.token, { 'Last-Event-ID': String(past) });
    expect(client.response?.headers['last-event-id']).to.equal(String(past));
    expect((await client.message('session')).data['cursor']).to.equal(past);
  });

  it('begins with one block of retry and session, and session says where the client stands', async () => {
    random = 0.25;
    const client = await stage.connect(`/v1/events?topic=${topic}`, payer.token);
    const session = await client.message('session');
    expect(client.messages[0]).to.equal(session);
    expect(Object.keys(session.data)).to.deep.equal([
      'cursor',
      'epoch',
      'topics',
      'heartbeatSeconds',
      'resumeToken',
      'resumeExpiresAt',
      'expiresAt',
    ]);
    const { rows } = await stage.pool.query('select epoch from outbox_meta');
    expect(session.data).to.deep.include({
      cursor: stage.cursor,
      epoch: rows[0].epoch,
      topics: [topic],
      heartbeatSeconds: 0.1,
    });
    expect(Date.parse(String(session.data['expiresAt'])) - Date.now()).to.be.within(3_590_000, 3_600_000);
    expect(client.raw).to.match(/^retry: 750\nevent: session\ndata: \{[^\n]+\}\n\n/);
  });

  it('spreads the time after which clients come back', async () => {
    const retries: (number | undefined)[] = [];
    for (random of [0, 0.5, 0.9999]) {
      const client = await stage.connect(path, payer.token);
      await client.message('session');
      retries.push(client.retries[0]);
    }
    random = 0.25;
    expect(retries).to.deep.equal([500, 1000, 1500]);
  });

  it('lists the topics of a feed, at most a hundred', async () => {
    const rich = await makePerson(stage.pool, 3);
    await stage.pool.query(
      `insert into streams (payer, recipient, status, rate_per_second, total_amount)
       select $1, $1, 'active', 1, 1 from generate_series(1, 120)`,
      [rich.wallet],
    );
    await stage.settled();
    const [session, small] = await Promise.all(
      [rich.token, stranger.token].map(async (token) =>
        (await stage.connect('/v1/events', token)).message('session'),
      ),
    );
    expect(session?.data['topics']).to.have.length(100);
    expect(small?.data['topics']).to.have.members([`user:${stranger.id}`, `wallet:${stranger.wallet}`]);
  });

  it('writes an event as event, data and id, in this order, data as the database has it', async () => {
    const client = await (await stage.connect(path, payer.token)).caughtUp();
    await stage.pool.query(`select outbox_publish($1, 'test:exact', $2)`, [
      topic,
      '{"money": 12345678901234567890.10, "a":"é\\n\\u2028"}',
    ]);
    const [event] = await client.received(1);
    expect(client.raw).to.contain(
      `\n\nevent: test:exact\ndata: {"money": 12345678901234567890.10, "a":"é\\n\\u2028"}\nid: ${event?.id}\n\n`,
    );
  });

  it('keeps an event on one line whatever line breaks its JSON has', async () => {
    const client = await (await stage.connect(path, payer.token)).caughtUp();
    await stage.pool.query(`select outbox_publish($1, 'test:lines', $2)`, [topic, '{\n"a":\r1,\r\n"b":2}']);
    const [event] = await client.received(1);
    expect(event?.data).to.deep.equal({ a: 1, b: 2 });
    expect(client.raw).to.contain('data: { "a": 1,  "b":2}\n');
  });

  it('says caught-up once, with the cursor as id, where replay ends', async () => {
    const from = stage.cursor;
    const head = await stage.publish(topic, 3);
    const client = await stage.connect(path, payer.token, { 'Last-Event-ID': String(from) });
    await client.caughtUp();
    await stage.publish(topic);
    await client.received(4);
    const types = client.messages.map(({ type }) => type).filter((type) => type !== 'cursor');
    expect(types).to.deep.equal([
      'session',
      ...['test:happened', 'test:happened', 'test:happened'],
      'caught-up',
      'test:happened',
    ]);
    const caughtUp = await client.message('caught-up');
    expect(caughtUp).to.deep.equal({ type: 'caught-up', data: { cursor: head }, id: String(head) });
    expect(client.raw).to.contain(`event: caught-up\ndata: {"cursor":${head}}\nid: ${head}\n\n`);
  });

  it('never sends a block without data, and no id with what is no place in the order', async () => {
    const client = await stage.connect(path, payer.token, { 'Last-Event-ID': 'nonsense' });
    await client.caughtUp();
    await stage.publish(topic);
    await client.received(1);
    await waitFor(() => client.comments.length > 1, { what: 'heartbeats' });
    const blocks = client.raw
      .replaceAll(/^:.*\n/gm, '')
      .split(/\n\n+/)
      .filter((block) => block.trim() !== '');
    for (const block of blocks) expect(block).to.match(/^data: ./m);
    for (const { type, id } of client.messages) {
      if (['session', 'reset', 'disconnect'].includes(type)) expect(id, type).to.equal(undefined);
      else expect(id, type).to.match(/^\d+$/);
    }
    expect(client.messages.map(({ type }) => type)).to.include('reset');
  });

  it('keeps a quiet stream open with comments, at the interval', async () => {
    const client = await (await stage.connect(path, payer.token)).caughtUp();
    const before = client.comments.length;
    const startedAt = performance.now();
    await waitFor(() => client.comments.length >= before + 5, { what: 'five heartbeats' });
    // Between four and five intervals of 100 ms, and more for a busy machine.
    expect(performance.now() - startedAt).to.be.within(350, 3000);
    expect(client.raw).to.match(/(:\n){3,}/);
    expect(client.messages.filter(({ type }) => type === 'cursor')).to.have.length(0);
  });

  it("moves a quiet client's cursor on over other people's events, once for each advance", async () => {
    const client = await (await stage.connect('/v1/events', stranger.token)).caughtUp();
    const head = await stage.publish(topic, 3);
    const cursor = await client.message('cursor');
    expect(cursor).to.deep.equal({ type: 'cursor', data: { cursor: head }, id: String(head) });
    expect(client.lastEventId).to.equal(String(head));
    const before = client.comments.length;
    await waitFor(() => client.comments.length >= before + 2, { what: 'heartbeats' });
    expect(client.messages.filter(({ type }) => type === 'cursor')).to.have.length(1);
    expect(client.events).to.have.length(0);
  });

  it('sends no cursor to a client whose own event was the last', async () => {
    const client = await (await stage.connect(path, payer.token)).caughtUp();
    await stage.publish(topic);
    await client.received(1);
    const before = client.comments.length;
    await waitFor(() => client.comments.length >= before + 2, { what: 'heartbeats' });
    expect(client.messages.filter(({ type }) => type === 'cursor')).to.have.length(0);
  });

  it('gives the header precedence over the query, and takes an empty header for none', async () => {
    const cursorOf = async (query: string, headers: Record<string, string>) =>
      (await (await stage.connect(path + query, payer.token, headers)).message('session')).data['cursor'];
    const next = String(past + 1);
    expect(await cursorOf(`?lastEventId=${past}`, {})).to.equal(past);
    expect(await cursorOf(`?lastEventId=${past}`, { 'Last-Event-ID': next })).to.equal(past + 1);
    expect(await cursorOf('?lastEventId=nonsense', { 'Last-Event-ID': next })).to.equal(past + 1);
    expect(await cursorOf(`?lastEventId=${past}`, { 'Last-Event-ID': '' })).to.equal(past);
    expect(await cursorOf('', { 'Last-Event-ID': '' })).to.equal(stage.cursor);
    expect(await cursorOf('?lastEventId=', {})).to.equal(stage.cursor);
  });

  it('starts at the head without a cursor', async () => {
    await stage.publish(topic, 2);
    const client = await (await stage.connect(path, payer.token)).caughtUp();
    expect(client.events).to.deep.equal([]);
    expect(client.response?.headers['last-event-id']).to.equal(String(stage.cursor));
  });
});
