import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { column, openSession, type Session, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

const WIDTH = 50;
const ROUNDS = 6;

describe('retention behind people who read', () => {
  let database: TestDatabase;
  let pool: Pool;
  const readers: Session[] = [];

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    for (const partition of await partitions()) await pool.query(`drop table ${partition}`);
    await pool.query(`update outbox_meta set partition_ids = ${WIDTH}`);
    await pool.query('select outbox_add_partitions(2)');
    await pool.query(
      `select outbox_append('test:a', 'test:event', '{}') from generate_series(1, ${3 * WIDTH})`,
    );
  });

  afterEach(async () => {
    for (const reader of readers.splice(0)) reader.end();
    await database.drop();
  });

  const partitions = () =>
    column<string>(
      pool,
      'select partition from outbox_partitions where from_id is not null order by from_id',
    );

  /** A round of retention as an instance does it: what each of the two steps came to, `done` or its SQLSTATE. */
  const round = () =>
    Promise.all(
      ['outbox_add_partitions(2)', 'outbox_drop_partitions(clock_timestamp())'].map((step) =>
        pool.query(`select ${step}`).then(
          () => 'done',
          (error: { code?: string }) => error.code,
        ),
      ),
    );

  /** What pg_dump does first: a lock on each table of the outbox, held until it ends. */
  async function dump(): Promise<void> {
    const tables = await column<string>(
      pool,
      `select oid::regclass::text from pg_class where relname like 'outbox%' and relkind in ('r', 'p')`,
    );
    const reader = await openSession(pool);
    readers.push(reader);
    await reader.query('begin transaction isolation level repeatable read, read only');
    for (const table of tables) await reader.query(`lock table ${table} in access share mode`);
  }

  async function longReader(): Promise<void> {
    const reader = await openSession(pool);
    readers.push(reader);
    await reader.query('begin; declare events cursor for select * from outbox; fetch 1 from events');
  }

  for (const [who, open] of [
    ['a pg_dump', dump],
    ['a reader with an open cursor', longReader],
  ] as const) {
    it(`${who}: writers commit all the while, nothing is dropped under it, and all of it once it has gone`, async () => {
      await open();
      const before = await partitions();
      let over = false;
      const commits = [0, 0, 0];
      // A writer behind a lock that waits would wait for the reader's end, which comes after this.
      const writers = commits.map(async (_, writer) => {
        const session = await openSession(pool);
        readers.push(session);
        await session.query(`set lock_timeout = '5s'`);
        while (!over) {
          await session.query(`select outbox_append('test:a', 'test:event', '{}')`);
          commits[writer] = (commits[writer] ?? 0) + 1;
        }
      });
      let dropsGivenUp = 0;
      for (let n = 0; n < ROUNDS; n += 1) {
        const sofar = [...commits];
        const [, dropped] = await round();
        if (dropped === '55P03') dropsGivenUp += 1;
        await waitFor(() => commits.every((count, writer) => count > (sofar[writer] ?? 0)), {
          what: `a commit of every writer after round ${n}`,
        });
      }
      over = true;
      await Promise.all(writers);
      expect(dropsGivenUp).to.equal(ROUNDS);
      expect(await partitions()).to.include.members(before);
      expect(await scalar(pool, 'select dropped_through from outbox_meta')).to.equal(0);

      readers[0]?.end();
      await expectEventually(round);
      expect(await partitions()).to.not.include('outbox_p0');
      expect(await scalar(pool, 'select dropped_through from outbox_meta')).to.be.above(WIDTH);
    });
  }

  /** The server notices a moment later that a reader has gone. */
  async function expectEventually(attempt: () => Promise<(string | undefined)[]>): Promise<void> {
    for (let n = 0; n < 50; n += 1) if ((await attempt())[1] === 'done') return;
    expect.fail('nothing was dropped after the reader had gone');
  }
});
