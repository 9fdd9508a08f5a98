import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { append, column, failure, openSession, type Session, scalar } from '../support/session.ts';

const READS = [
  'select * from outbox_read(0)',
  'select outbox_horizon()',
  'select outbox_head()',
  'select * from outbox_read_batch(0, 10)',
];

describe('isolation levels', () => {
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

  for (const level of ['repeatable read', 'serializable']) {
    for (const read of READS) {
      it(`refuses ${read} under ${level}: its steps would share a snapshot`, async () => {
        await session.query(`begin isolation level ${level}`);
        const { code, message } = await failure(session.query(read));
        expect(code).to.equal('25001');
        expect(message).to.contain(level);
      });
    }

    it(`is exact for a writer under ${level} whose snapshot is older than other writers' events`, async () => {
      const start = await scalar<number>(pool, 'select outbox_head()');
      await session.query(`begin isolation level ${level}`);
      await session.query('select count(*) from outbox');
      const before = await append(pool);
      const own = await append(session);
      const later = await append(pool);
      const read = () => column<number>(pool, 'select id from outbox_read($1)', [start]);
      expect(await read()).to.deep.equal([before]);
      await session.query('commit');
      expect(await read()).to.deep.equal([before, own, later]);
    });

    it(`keeps the id of a writer under ${level} above its mark, however old its snapshot`, async () => {
      await session.query(`begin isolation level ${level}`);
      await session.query('select count(*) from outbox');
      await append(pool);
      const last = await append(pool);
      const own = await append(session);
      const mark = await scalar(pool, 'select horizon from outbox_inflight where pid = $1', [session.pid]);
      expect(mark).to.equal(last);
      expect(own).to.equal(last + 1);
    });
  }

  it('counts read uncommitted as what it is in Postgres: allowed or refused, never wrong', async () => {
    await session.query('begin isolation level read uncommitted');
    const { code } = await failure(session.query('select outbox_horizon()'));
    expect(code).to.equal('25001');
  });

  it('keeps every step in a volatile plpgsql function, where each statement has its own snapshot', async () => {
    const { rows } = await pool.query(
      `select proname, provolatile, lanname from pg_proc p join pg_language l on l.oid = p.prolang
        where proname in ('outbox_read', 'outbox_read_batch', 'outbox_bound', 'outbox_horizon', 'outbox_append')
        order by proname`,
    );
    expect(rows).to.have.length(5);
    for (const row of rows) expect(row).to.include({ provolatile: 'v', lanname: 'plpgsql' });
  });
});
