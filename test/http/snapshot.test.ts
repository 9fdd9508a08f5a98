import { expect } from 'chai';
import request from 'supertest';
import type { Service } from '../../src/service.ts';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts';
import { makeService, startService } from '../support/service.ts';
import { SseClient } from '../support/sse-client.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { makeEscrow, makePerson, makeStream, type Person } from '../support/world.ts';

const ABSENT = '99999999-9999-4999-8999-999999999999';

describe('GET /v1/snapshot', () => {
  let database: TestDatabase;
  let service: Service;
  let payer: Person;
  let stranger: Person;
  let admin: Person;
  let stream: string;
  let escrow: string;
  let foreign: string;

  before(async () => {
    database = await createTestDatabase();
    payer = await makePerson(database.pool, 1);
    stranger = await makePerson(database.pool, 2);
    admin = await makePerson(database.pool, 3, 'ADMIN');
    stream = await makeStream(database.pool, payer, admin);
    escrow = await makeEscrow(database.pool, payer);
    foreign = await makeStream(database.pool, stranger, admin);
    service = await startService(database.url, { MAX_TOPICS_PER_CONNECTION: '3' });
  });
  after(async () => {
    await service.stop();
    await database.drop();
  });

  function ask(token: string, topics: string[] = [], url = service.url) {
    const query = topics.map((topic) => `topic=${encodeURIComponent(topic)}`).join('&');
    return request(url).get(`/v1/snapshot?${query}`).set('Authorization', `Bearer ${token}`);
  }

  it('holds the actor’s own topics when none is named, with cursor and epoch, and is not to be stored', async () => {
    const { body, status, headers } = await ask(payer.token);
    expect(status).to.equal(200);
    expect(headers['cache-control']).to.equal('no-store');
    expect(body).to.have.all.keys('cursor', 'epoch', 'topics');
    expect(body.cursor).to.equal(service.hub.cursor);
    expect(body.epoch).to.equal(service.hub.history.epoch);
    expect(body.topics).to.have.all.keys(`user:${payer.id}`, `wallet:${payer.wallet}`);
    expect(body.topics[`user:${payer.id}`].escrows).to.have.lengthOf(1);
    expect(body.topics[`wallet:${payer.wallet}`].streams).to.have.lengthOf(1);
  });

  it('holds the topics that are named, in their normal form, once each', async () => {
    const topics = [`stream:${stream.toUpperCase()}`, `escrow:${escrow}`, `escrow:${escrow}`];
    const { body } = await ask(payer.token, topics);
    expect(body.topics).to.have.all.keys(`stream:${stream}`, `escrow:${escrow}`);
    expect(body.topics[`stream:${stream}`]).to.include({ streamId: stream, status: 'active' });
    expect(body.topics[`escrow:${escrow}`]).to.include({ escrowId: escrow, amount: '100.0000000' });
  });

  it('answers alike for a topic that is another’s, one that does not exist, and one that cannot', async () => {
    const bodies: string[] = [];
    for (const topic of [`stream:${foreign}`, `stream:${ABSENT}`, 'escrow:none', `user:${stranger.id}`]) {
      const { status, text } = await ask(payer.token, [`stream:${stream}`, topic]);
      expect(status).to.equal(403);
      bodies.push(text);
    }
    expect(new Set(bodies).size).to.equal(1);
    expect(JSON.parse(bodies[0] ?? '')).to.include({ code: 'forbidden' });
  });

  it('shows a deactivated user nothing, not even themselves', async () => {
    const former = await makePerson(database.pool, 4);
    await database.pool.query('update users set is_active = false where id = $1', [former.id]);
    expect((await ask(former.token)).status).to.equal(403);
  });

  it('shows administrators everybody’s, and null for what does not exist', async () => {
    const topics = [`user:${payer.id}`, `stream:${foreign}`, `stream:${ABSENT}`];
    const { body } = await ask(admin.token, topics);
    expect(body.topics).to.have.all.keys(topics);
    expect(body.topics[`user:${payer.id}`].escrows).to.have.lengthOf(1);
    expect(body.topics[`stream:${foreign}`]).to.include({ streamId: foreign });
    expect(body.topics[`stream:${ABSENT}`]).to.equal(null);
  });

  it('has membership and state of one moment and a cursor from before it: what commits meanwhile is in the stream', async () => {
    const writer = await database.pool.connect();
    try {
      const before = service.hub.cursor;
      await writer.query('begin; lock table users in access exclusive mode');
      const answer = ask(payer.token).then(({ body }) => body);
      await waitFor(isBlocked, { what: 'the look-up of membership to wait for the lock' });
      await database.pool.query("update streams set status = 'paused' where id = $1", [stream]);
      await waitFor(() => service.hub.cursor > before, { what: 'the relay to read the change' });
      await writer.query('commit');
      const { cursor, topics } = await answer;
      expect(cursor).to.equal(before);
      expect(topics[`wallet:${payer.wallet}`].streams[0].status).to.equal('active');
      const client = await SseClient.open(`${service.url}/v1/events?lastEventId=${cursor}`, payer.token);
      expect((await client.message('stream:updated')).data).to.include({ status: 'paused' });
      client.close();
    } finally {
      writer.release();
    }
  });

  it('names what is wrong with a request', async () => {
    const anonymous = await request(service.url).get('/v1/snapshot');
    expect([anonymous.status, anonymous.body.code]).to.deep.equal([401, 'unauthenticated']);
    const late = await ask(mintToken({ sub: payer.id, exp: 1 }));
    expect([late.status, late.body.code]).to.deep.equal([401, 'token_expired']);
    const invalid = await ask(payer.token, ['planet:earth']);
    expect([invalid.status, invalid.body.code]).to.deep.equal([400, 'invalid_topic']);
    const many = await ask(payer.token, ['wallet:a', 'wallet:b', 'wallet:c', 'wallet:d']);
    expect([many.status, many.body.code]).to.deep.equal([400, 'too_many_topics']);
  });

  it('is unavailable while the service is not ready', async () => {
    const empty = await createEmptyDatabase();
    const unready = makeService(empty.url);
    try {
      expect(await unready.start().catch((error: Error) => error.message)).to.match(/migrations are missing/);
      await expectUnavailable(unready.url);
    } finally {
      await unready.stop();
      await empty.drop();
    }
  });

  it('is unavailable while the service drains', async () => {
    const draining = await startService(database.url, { DRAIN_SECONDS: '1' }, { random: () => 0.5 });
    const { url } = draining;
    const client = await SseClient.open(`${url}/v1/events`, payer.token);
    await client.caughtUp();
    const stopped = draining.stop();
    await expectUnavailable(url);
    await stopped;
    client.close();
  });

  it('is unavailable when the database fails, and back when it is', async () => {
    await database.pool.query('alter table notifications rename to elsewhere');
    await expectUnavailable(service.url);
    await database.pool.query('alter table elsewhere rename to notifications');
    expect((await ask(payer.token)).status).to.equal(200);
  });

  async function expectUnavailable(url: string): Promise<void> {
    const { status, headers, body } = await ask(payer.token, [], url);
    expect([status, body.code]).to.deep.equal([503, 'unavailable']);
    expect(headers).to.include.keys('retry-after');
  }

  async function isBlocked(): Promise<boolean> {
    const { rows } = await database.pool.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    return rows.length > 0;
  }
});
