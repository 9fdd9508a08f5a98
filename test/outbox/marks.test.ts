import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { append, column, openSession, type Session, scalar } from '../support/session.ts';

const MARK = 'settlewire.in_flight';

describe('the mark that spares a transaction more locks', () => {
  let database: TestDatabase;
  let pool: Pool;
  let writer: Session;
  const sessions: Session[] = [];

  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
  });

  beforeEach(async () => {
    writer = await openSession(pool);
    sessions.push(writer);
  });

  afterEach(() => {
    for (const session of sessions.splice(0)) session.end();
  });

  after(() => database.drop());

  /** K of each lock in flight that the session holds, from the lowest. */
  const locksOf = (session: Session): Promise<number[]> =>
    column<number>(
      pool,
      `select ((classid::bigint & 65535) << 32) | objid::bigint from pg_locks
        where locktype = 'advisory' and classid::bigint >> 16 = 21335 and pid = $1 order by 1`,
      [session.pid],
    );

  it('is left by few of those who append once', async () => {
    let marks = 0;
    for (let n = 0; n < 300; n += 1) {
      await writer.query('begin');
      await append(writer);
      if (await scalar(writer, `select current_setting('${MARK}', true) <> ''`)) marks += 1;
      await writer.query('commit');
    }
    // 19 on average; above 60 once in 10^13 runs.
    expect(marks).to.be.within(1, 60);
  });

  it('comes soon: a transaction with 5,000 events has few locks, all in our key space, and one line in outbox_inflight', async () => {
    await pool.query(`insert into streams (payer, recipient, rate_per_second, total_amount)
                      select 'p' || n, 'r' || n, 1, 1 from generate_series(1, 5000) n`);
    await writer.query('begin');
    await writer.query('update streams set rate_per_second = 2');
    await writer.query('set constraints all immediate');
    const { rows } = await pool.query(
      `select classid::bigint >> 16 as space, objsubid, mode, count(*) from pg_locks
        where locktype = 'advisory' and pid = $1 group by 1, 2, 3`,
      [writer.pid],
    );
    expect(rows).to.have.length(1);
    expect(rows[0]).to.include({ space: 21335, objsubid: 1, mode: 'ShareLock' });
    // 16 on average; 400 once in 10^11 runs.
    expect(rows[0]?.count).to.be.below(400);
    expect(await column(pool, 'select 1 from outbox_inflight where pid = $1', [writer.pid])).to.have.length(
      1,
    );
    await writer.query('rollback');
  });

  it('forged too high for the session, is one lock for 3,000 events all the same, and not one for each', async () => {
    await pool.query(`insert into streams (payer, recipient, rate_per_second, total_amount)
                      select 'q' || n, 'r' || n, 1, 1 from generate_series(1, 3000) n`);
    await writer.query(`set ${MARK} = '999999999999999'`);
    await writer.query('begin');
    await writer.query('update streams set rate_per_second = rate_per_second + 1');
    await writer.query('set constraints all immediate');
    expect(await locksOf(writer)).to.have.length(1);
    await writer.query('rollback');
  });

  it('is left by the first append that a hash chooses, and makes all after it take the lock that it names', async () => {
    await writer.query('begin');
    const held: number[] = [];
    let mark: string | null = null;
    while (!mark) {
      await append(writer);
      held.push(await scalar<number>(writer, 'select max(id) from outbox where txid = pg_current_xact_id()'));
      mark = await scalar<string | null>(writer, `select current_setting('${MARK}', true)`);
    }
    const locks = await locksOf(writer);
    expect(locks, 'a lock for each append').to.have.length(held.length);
    expect(locks.at(-1), 'that of the last').to.equal(Number(mark));
    for (const [n, lock] of locks.entries()) expect(lock).to.be.below(held[n] ?? 0);
    for (let n = 0; n < 100; n += 1) await append(writer);
    expect(await locksOf(writer), 'and no more').to.deep.equal(locks);
    expect(await scalar(pool, 'select horizon from outbox_inflight where pid = $1', [writer.pid])).to.equal(
      locks[0],
    );
    await writer.query('rollback');
    expect(await locksOf(writer)).to.deep.equal([]);
  });

  it('comes whatever the writer does: setseed() before each append, or two writers by turns', async () => {
    const other = await openSession(pool);
    sessions.push(other);
    await writer.query('begin');
    await writer.query(`do $$ begin
      for n in 1..1000 loop perform setseed(0.5); perform outbox_append('test:a', 'test:event', '{}'); end loop;
    end $$`);
    expect(await locksOf(writer)).to.have.length.below(400);
    await writer.query('rollback');
    for (const each of [writer, other]) await each.query('begin');
    for (let n = 0; n < 500; n += 1) for (const each of [writer, other]) await append(each);
    for (const each of [writer, other]) {
      expect(await locksOf(each)).to.have.length.below(400);
      await each.query('rollback');
    }
  });
});
