import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { append, column, failure, openSession, type Session, scalar } from '../support/session.ts';

const UUID = '7F1D2C3B-0000-4000-8000-00000000000A';
const STELLAR = `G${'A'.repeat(55)}`;

describe('outbox_publish', () => {
  let database: TestDatabase;
  let pool: Pool;
  let session: Session;

  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
  });

  beforeEach(async () => {
    session = await openSession(pool);
  });

  afterEach(() => session.end());
  after(() => database.drop());

  const publish = (topic: string | null, type: string | null = 'test:event', data: string | null = '{}') =>
    session.query('select outbox_publish($1, $2, $3)', [topic, type, data]);
  const waiting = () => scalar<number>(pool, 'select count(*) from outbox_publishing');
  const since = (id: number) => column<string>(pool, 'select topic from outbox_read($1)', [id]);
  const head = () => scalar<number>(pool, 'select outbox_head()');

  it('appends at commit, in the order of the calls, and takes no id before', async () => {
    const start = await head();
    await session.query('begin');
    await publish('test:1');
    await publish('test:2');
    expect(await append(pool)).to.equal(start + 1);
    expect(await column(pool, 'select 1 from outbox_inflight')).to.deep.equal([]);
    await session.query('commit');
    expect(await since(start)).to.deep.equal(['test:a', 'test:1', 'test:2']);
    expect(await waiting()).to.equal(0);
  });

  it('publishes nothing when the transaction rolls back, wholly or to a savepoint', async () => {
    const start = await head();
    await session.query('begin');
    await publish('test:1');
    await session.query('rollback');
    await session.query('begin');
    await publish('test:2');
    await session.query('savepoint s');
    await publish('test:3');
    await session.query('rollback to s');
    await session.query('commit');
    expect(await since(start)).to.deep.equal(['test:2']);
    expect(await waiting()).to.equal(0);
  });

  it('appends at once, and still once, when constraints are immediate', async () => {
    const start = await head();
    await session.query('begin');
    await session.query('set constraints all immediate');
    await publish('test:1');
    await session.query('commit');
    expect(await since(start)).to.deep.equal(['test:1']);
    expect(await waiting()).to.equal(0);
  });

  it('brings topics into the form in which they are subscribed to', async () => {
    const start = await head();
    await session.query('begin');
    await publish(`escrow:${UUID}`);
    await publish(`wallet:0x${'AB'.repeat(20)}`);
    await publish(`wallet:${STELLAR.toLowerCase()}`);
    await publish('wallet:9wQbZ');
    await session.query('commit');
    expect(await since(start)).to.deep.equal([
      `escrow:${UUID.toLowerCase()}`,
      `wallet:0x${'ab'.repeat(20)}`,
      `wallet:${STELLAR}`,
      'wallet:9wQbZ',
    ]);
  });

  it('refuses, at the call, what would be no event', async () => {
    for (const topic of [null, '', 'a', 'A:b', 'a:b c', 'a:b\n', `a:${'b'.repeat(129)}`])
      expect((await failure(publish(topic))).message, String(topic)).to.match(/^not a topic: /);
    for (const type of [null, '', 'session', 'caught-up', 'a:B', 'a:b-c', 'a:b\n'])
      expect((await failure(publish('test:a', type))).message, String(type)).to.match(/^not an event type: /);
    expect((await failure(publish('test:a', 'test:event', null))).message).to.equal('an event needs data');
    expect((await failure(publish('test:a', 'test:event', '{oops'))).code).to.equal('22P02');
  });

  it('refuses access changes: they follow from the tables', async () => {
    for (const type of ['access:granted', 'access:revoked', 'access:anything'])
      expect(await failure(publish('user:1', type))).to.include({
        code: '42501',
        message: `event type '${type}' is reserved`,
      });
  });
});
