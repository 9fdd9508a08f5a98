import { expect } from 'chai';
import type { PoolClient } from 'pg';
import type { Service } from '../../src/service.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { makeEscrow, makePerson, type Person } from '../support/world.ts';

describe('access that changes', () => {
  let stage: Stage;
  /** Replays everything from the database, two events a page. */
  let windowless: Service;
  let owner: Person;
  let me: Person;
  let escrow: string;
  let people = 0;

  before(async () => {
    stage = await Stage.open();
    windowless = await stage.addService({ REPLAY_WINDOW_EVENTS: '0', REPLAY_PAGE_EVENTS: '2' });
  });

  after(() => stage.close());

  beforeEach(async () => {
    people += 2;
    owner = await makePerson(stage.pool, people);
    me = await makePerson(stage.pool, people + 1);
    escrow = await makeEscrow(stage.pool, owner);
    await stage.settled();
  });

  afterEach(() => stage.closeClients());

  type Step = 'add' | 'remove' | 'reject' | 'accept' | 'seen' | 'unseen';
  const STATEMENTS: Record<Step, string> = {
    add: `insert into escrow_parties (escrow_id, user_id, role) values ($1, $2, 'buyer')`,
    remove: 'delete from escrow_parties where escrow_id = $1 and user_id = $2',
    reject: `update escrow_parties set status = 'rejected' where escrow_id = $1 and user_id = $2`,
    accept: `update escrow_parties set status = 'accepted' where escrow_id = $1 and user_id = $2`,
    // An event on the escrow, which this person should or should not see.
    seen: `select outbox_publish('escrow:' || $1::uuid, 'test:seen', '{}'), $2::uuid`,
    unseen: `select outbox_publish('escrow:' || $1::uuid, 'test:unseen', '{}'), $2::uuid`,
  };

  /** Each inner list is one transaction. */
  async function happen(...transactions: Step[][]): Promise<void> {
    const client: PoolClient = await stage.pool.connect();
    for (const steps of transactions) {
      await client.query('begin');
      for (const step of steps) await client.query(STATEMENTS[step], [escrow, me.id]);
      await client.query('commit');
    }
    client.release();
    await Promise.all([stage.settled(), stage.settled(windowless)]);
  }

  const testEvents = (client: SseClient): string[] =>
    client.events.filter(({ type }) => type.startsWith('test:')).map(({ type, id }) => `${type} ${id}`);

  async function seenIds(after: number): Promise<string[]> {
    const { rows } = await stage.pool.query<{ id: number }>(
      `select id from outbox where type = 'test:seen' and id > $1 and topic = $2 order by id`,
      [after, `escrow:${escrow}`],
    );
    return rows.map(({ id }) => `test:seen ${id}`);
  }

  const histories: Record<string, Step[][]> = {
    'a grant': [['unseen'], ['add'], ['seen'], ['seen']],
    'a grant and events in one transaction': [['unseen', 'add', 'seen', 'seen']],
    'a revocation': [['add'], ['seen'], ['remove'], ['unseen'], ['unseen']],
    'a revocation between events of one transaction': [['add'], ['seen', 'remove', 'unseen']],
    'a grant that its own transaction takes back': [['unseen', 'add', 'unseen', 'remove', 'unseen']],
    'a rejection and a change of mind': [['add', 'seen'], ['reject'], ['unseen'], ['accept'], ['seen']],
    'grants and revocations in turn': [
      ['unseen', 'add', 'seen'],
      ['remove', 'unseen', 'unseen'],
      ['add', 'seen', 'seen'],
      ['remove', 'unseen'],
      ['add'],
      ['seen'],
    ],
  };
  for (const [what, transactions] of Object.entries(histories)) {
    it(`takes effect at its place, live, from the window and from the database: ${what}`, async () => {
      const from = stage.cursor;
      const live = await (await stage.connect('/v1/events', me.token)).caughtUp();
      await happen(...transactions);
      const expected = await seenIds(from);
      const clients = [live];
      for (const service of [stage.service, windowless]) {
        const headers = { 'Last-Event-ID': String(from) };
        clients.push(await (await stage.connect('/v1/events', me.token, headers, service)).caughtUp());
      }
      await live.received(clients[1]?.events.length ?? 0);
      for (const client of clients) expect(testEvents(client)).to.deep.equal(expected);
      // The access events themselves are the person's own.
      for (const client of clients) expect(client.ids).to.deep.equal(clients[1]?.ids);
    });

    it(`takes effect at its place for one who comes back from anywhere in between: ${what}`, async () => {
      const from = stage.cursor;
      await happen(...transactions);
      const expected = await seenIds(from);
      for (let cursor = from; cursor <= stage.cursor; cursor += 1) {
        for (const service of [stage.service, windowless]) {
          const headers = { 'Last-Event-ID': String(cursor) };
          const client = await (await stage.connect('/v1/events', me.token, headers, service)).caughtUp();
          const rest = expected.filter((line) => Number(line.split(' ')[1]) > cursor);
          expect(testEvents(client), `from ${cursor - from}`).to.deep.equal(rest);
          client.close();
        }
      }
    });
  }

  it('in a stream of one named topic: nothing before the grant, and the end at the revocation', async () => {
    await happen(['add']);
    const path = `/v1/events?topic=escrow:${escrow}`;
    const client = await (await stage.connect(path, me.token)).caughtUp();
    await happen(['seen', 'remove', 'unseen']);
    await client.untilEnded();
    expect(client.events.map(({ type }) => type)).to.deep.equal(['test:seen']);
    expect(client.messages.at(-1)?.data['reason']).to.equal('access_revoked');
    expect((await stage.connect(path, me.token)).status).to.equal(403);
  });

  it('in a stream of two named topics: the other one goes on', async () => {
    await happen(['add']);
    const path = `/v1/events?topic=escrow:${escrow}&topic=user:${me.id}`;
    const client = await (await stage.connect(path, me.token)).caughtUp();
    await happen(['seen'], ['remove', 'unseen']);
    await stage.publish(`user:${me.id}`);
    await client.message('test:happened');
    expect(client.events.map(({ type }) => type)).to.deep.equal([
      'test:seen',
      'access:revoked',
      'test:happened',
    ]);
  });

  it('in a stream of a named topic that was lost and gained again while the client was away: it goes on', async () => {
    await happen(['add'], ['seen']);
    const from = stage.cursor;
    await happen(['seen'], ['remove', 'unseen'], ['add', 'seen']);
    const expected = await seenIds(from);
    for (const service of [stage.service, windowless]) {
      const path = `/v1/events?topic=escrow:${escrow}`;
      const client = await stage.connect(path, me.token, { 'Last-Event-ID': String(from) }, service);
      await client.caughtUp();
      expect(testEvents(client)).to.deep.equal(expected);
      expect(client.ended).to.equal(false);
    }
  });

  it('ends sessions once: who comes back from before that is let in', async () => {
    const from = stage.cursor;
    const client = await (await stage.connect('/v1/events', me.token)).caughtUp();
    await stage.pool.query(`update users set role = 'ADMIN' where id = $1`, [me.id]);
    await client.untilEnded();
    expect(client.messages.at(-1)?.data['reason']).to.equal('session_revoked');
    for (const service of [stage.service, windowless]) {
      const back = await stage.connect('/v1/events', me.token, { 'Last-Event-ID': String(from) }, service);
      await back.caughtUp();
      expect(back.ended).to.equal(false);
    }
  });

  it('ends the sessions of a wallet that somebody links', async () => {
    const wallet = `0x${'c'.repeat(39)}${people.toString(16).slice(-1)}`;
    const token = mintToken({ sub: wallet });
    const client = await (await stage.connect('/v1/events', token)).caughtUp();
    await stage.pool.query('update users set wallet_address = $2 where id = $1', [me.id, wallet]);
    await client.untilEnded();
    expect(client.messages.at(-1)?.data['reason']).to.equal('session_revoked');
    const back = await stage.connect('/v1/events', token);
    expect((await back.message('session')).data['topics']).to.include(`user:${me.id}`);
  });
});
