import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { editFunction } from '../support/gate.ts';
import { append, column, openSession, type Session, scalar } from '../support/session.ts';

/** Above the 128 KiB from which glibc maps a block by itself at first, below the 256 KiB that a session which appends has freed. */
const BLOCK_BYTES = 200_000;

describe('the memory of a session that appends', () => {
  let database: TestDatabase;
  let pool: Pool;
  const sessions: Session[] = [];

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
  });

  afterEach(async () => {
    for (const session of sessions.splice(0)) session.end();
    await database.drop();
  });

  const open = async (): Promise<Session> => {
    const session = await openSession(pool);
    sessions.push(session);
    return session;
  };

  /** Bytes that the session's process has mapped for itself outside of its heap, while it also holds a block of that size. */
  const mappedBytes = async (session: Session, blockBytes: number): Promise<number> => {
    const { rows } = await session.query<{ block: string; maps: string }>({
      // Nothing that the planner could work out: it would free the block before the time.
      text: `select repeat('x', case when random() >= 0 then $1::int end) as block, pg_read_file('/proc/self/maps') as maps`,
      values: [blockBytes],
    });
    const maps = rows[0]?.maps ?? '';
    return [...maps.matchAll(/^(\w+)-(\w+) rw-p \w+ 00:00 0\s*$/gm)]
      .map(([, from, to]) => Number.parseInt(to as string, 16) - Number.parseInt(from as string, 16))
      .reduce((sum, size) => sum + size, 0);
  };

  /** Whether glibc maps a block by itself, as it does until a larger one has been freed; what it does not map it keeps, up to twice the largest. */
  const mapsBlock = async (session: Session): Promise<boolean> => {
    const before = await mappedBytes(session, 1);
    return (await mappedBytes(session, BLOCK_BYTES)) - before > BLOCK_BYTES / 2;
  };

  it('is kept from its first append on', async function () {
    const [appending, other] = [await open(), await open()];
    if (!(await scalar(pool, "select version() ~ 'linux-gnu'"))) return this.skip();
    await append(appending);
    expect(await mapsBlock(other), 'a session that has not appended').equal(true);
    expect(await mapsBlock(appending), 'a session that has').equal(false);
    return undefined;
  });

  it("is not kept where somebody has replaced the function's body, with whatever it returns", async function () {
    if (!(await scalar(pool, "select version() ~ 'linux-gnu'"))) return this.skip();
    for (const value of ['true', 'false', 'null::boolean']) {
      await pool.query(
        `create or replace function outbox_keep_heap() returns boolean language sql immutable parallel safe return ${value}`,
      );
      const session = await open();
      await append(session);
      expect(await mapsBlock(session), value).equal(true);
    }
    expect(await column(pool, 'select id::int from outbox order by id')).deep.equal([1, 2, 3]);
    return undefined;
  });

  it('costs no append anything: its plan is that of one without it', async () => {
    const plan = (): Promise<string[]> =>
      column(
        pool,
        `explain (verbose, costs off) insert into outbox_appending (topic, type, data) values ('test:a', 'test:event', '{}')`,
      );
    const kept = await plan();
    await editFunction(
      pool,
      'outbox_next_id',
      /WHEN \(outbox_keep_heap\(\) AND false\) THEN NULL::bigint/,
      () => '',
    );
    expect(kept.join('\n')).contain('pg_try_advisory_xact_lock_shared');
    expect(kept).deep.equal(await plan());
  });
});
