import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { OutboxReader } from '../support/naive-reader.ts';
import { append, column, failure, openSession, type Session, scalar } from '../support/session.ts';

const MARK = 'settlewire.in_flight';

/** SQL run in one transaction; each `append` in it is an event. */
const TRANSACTIONS: Record<string, string[]> = {
  'a rolled back savepoint in which the mark was made': ['savepoint s', 'append', 'rollback to s', 'append'],
  'a rolled back savepoint after the mark was made': [
    'append',
    'savepoint s',
    'append',
    'rollback to s',
    'append',
  ],
  'a released savepoint': ['savepoint s', 'append', 'release s', 'append'],
  'nested savepoints': ['savepoint a', 'append', 'savepoint b', 'append', 'rollback to a', 'append'],
  'an exception block that swallows an append': [
    `do $$ begin perform outbox_append('test:a', 'test:event', '{}'); raise 'no'; exception when others then null; end $$`,
    'append',
  ],
  'RESET ALL after an append': ['append', 'reset all', 'append'],
  'RESET of the mark after an append': ['append', `reset ${MARK}`, 'append'],
  'SET of the mark to nothing after an append': ['append', `set ${MARK} = ''`, 'append'],
  'an append within a function within a function': [
    `create function pg_temp.outer() returns void language plpgsql set ${MARK} = '1' as $$
     begin perform outbox_append('test:a', 'test:event', '{}'); end $$`,
    'select pg_temp.outer()',
    'append',
  ],
  'a search_path with another outbox in front': ['create temp table outbox (id bigint)', 'append'],
};

const FORGERIES = [
  '281474976710655',
  '999999999999999',
  '99999999999999999999',
  '-1',
  '-281474976710656',
  'garbage',
  '0',
  '',
  ' 7',
  '1e9',
  '00012',
];

describe('the mark of a writer in flight', () => {
  let database: TestDatabase;
  let pool: Pool;
  let writer: Session;
  let reader: OutboxReader;
  const sessions: Session[] = [];

  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
  });

  beforeEach(async () => {
    writer = await openSession(pool);
    sessions.push(writer);
    reader = new OutboxReader(pool, await scalar<number>(pool, 'select outbox_head()'));
    // Ids with a past, so that a mark of 0 or 12 is an old one.
    for (let i = 0; i < 15; i += 1) await append(pool);
    await reader.read();
  });

  afterEach(() => {
    for (const session of sessions.splice(0)) session.end();
  });

  after(() => database.drop());

  /** The transaction is open and has ids: nothing of it and nothing after it may be read, until it commits. */
  async function expectNoHole(ids: number[]): Promise<void> {
    const marks = await column<number>(pool, 'select horizon from outbox_inflight where pid = $1', [
      writer.pid,
    ]);
    expect(Math.min(...marks), 'held below its first id').to.be.below(Math.min(...ids));
    const later = await append(pool);
    expect(await scalar(pool, 'select outbox_horizon()')).to.be.below(Math.min(...ids));
    expect((await reader.read()).filter((id) => id >= Math.min(...ids))).to.deep.equal([]);
    await writer.query('commit');
    expect(await reader.read()).to.include.members([...ids, later]);
    expect(await column(pool, 'select 1 from outbox_inflight')).to.deep.equal([]);
  }

  for (const [what, steps] of Object.entries(TRANSACTIONS)) {
    it(`leaves no hole with ${what}`, async () => {
      await writer.query('begin');
      for (const step of steps) {
        if (step === 'append') await append(writer);
        else await writer.query(step);
      }
      const ids = await column<number>(
        writer,
        'select id from public.outbox where txid = pg_current_xact_id()',
      );
      expect(ids).to.not.be.empty;
      await expectNoHole(ids);
    });
  }

  for (const forgery of FORGERIES) {
    for (const scope of ['session', 'local']) {
      it(`is not got round by "${forgery}", set for the ${scope === 'local' ? 'transaction' : 'session'}`, async () => {
        if (scope === 'session') await writer.query(`set ${MARK} = '${forgery}'`);
        await writer.query('begin');
        if (scope === 'local') await writer.query(`set local ${MARK} = '${forgery}'`);
        await expectNoHole([await append(writer), await append(writer)]);
      });
    }

    it(`is not got round by "${forgery}", set between two appends`, async () => {
      await writer.query('begin');
      const first = await append(writer);
      await writer.query(`set local ${MARK} = '${forgery}'`);
      await expectNoHole([first, await append(writer)]);
    });
  }

  it('forged, lets no transaction with events commit asynchronously', async () => {
    await writer.query(`set ${MARK} = '0'`);
    await writer.query('set synchronous_commit = off');
    await writer.query('begin');
    await append(writer);
    expect(await scalar(writer, 'show synchronous_commit')).to.equal('local');
    await writer.query('commit');
    expect(await scalar(writer, 'show synchronous_commit')).to.equal('off');
  });

  it('is new in the next transaction after COMMIT AND CHAIN, and after ROLLBACK AND CHAIN', async () => {
    for (const end of ['commit and chain', 'rollback and chain']) {
      await writer.query('begin');
      await append(writer);
      await writer.query(end);
      expect(await column(pool, 'select 1 from outbox_inflight')).to.deep.equal([]);
      await append(pool);
      await reader.read();
      await expectNoHole([await append(writer)]);
    }
  });

  it('does not outlive DISCARD ALL between transactions', async () => {
    await append(writer);
    await writer.query('discard all');
    await writer.query('begin');
    await expectNoHole([await append(writer)]);
  });

  it('cannot be avoided by calling the append without rights: only trigger functions may', async () => {
    await pool.query('create role guard_writer');
    try {
      await writer.query('set role guard_writer');
      expect((await failure(append(writer))).code).to.equal('42501');
      expect((await failure(writer.query("select nextval('outbox_id_seq')"))).code).to.equal('42501');
    } finally {
      await pool.query('drop role guard_writer');
    }
  });

  it('meets no advisory lock of an application, in either form', async () => {
    const application = await openSession(pool);
    sessions.push(application);
    // Neighbours of our key spaces, the two-key form of the same bits, and low numbers such as everybody uses.
    const keys = [
      '(21334::bigint << 48) | 5',
      '(21337::bigint << 48) | 5',
      '21335 << 16, 5',
      '21336 << 16, 0',
      '0',
      '5',
    ];
    for (const key of keys) await application.query(`select pg_advisory_lock(${key})`);
    expect(await column(pool, 'select 1 from outbox_inflight')).to.deep.equal([]);
    const id = await append(pool);
    expect(await scalar(pool, 'select outbox_horizon()')).to.equal(id);
    expect(await scalar(application, 'select pg_try_advisory_lock(21336::bigint << 48)')).to.equal(true);
  });

  it('is not held up by a writer in another database', async () => {
    const other = await createTestDatabase();
    const foreign = await openSession(other.pool);
    try {
      await foreign.query('begin');
      await append(foreign);
      const id = await append(pool);
      expect(await scalar(pool, 'select outbox_horizon()')).to.equal(id);
      expect(await column(pool, 'select 1 from outbox_inflight')).to.deep.equal([]);
      expect(await column(other.pool, 'select 1 from outbox_inflight')).to.have.length(1);
    } finally {
      foreign.end();
      await other.drop();
    }
  });
});
