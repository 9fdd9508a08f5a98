import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { forceMarks, type Gate, gateFunction, gateNextId, makeGate, runToGate } from '../support/gate.ts';
import { append, column, openSession, type Session, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

const CANCELLED = '57014';
const ATTEMPTS = 150;
const APPEND = "select outbox_append('test:a', 'test:event', '{}')";

const NEXT_ID_MARKING = 'outbox_next_id_marking';

/** Puts the gate where an append can be when it is cancelled. */
const PLACES: Record<string, (pool: Pool, gate: Gate) => Promise<unknown>> = {
  'before it has its lock': (pool, gate) => gateNextId(pool, /pg_sequence_last_value\([^)]*\)/, gate),
  'before it tries the doorbell': (pool, gate) =>
    gateNextId(pool, /pg_try_advisory_lock\([^<]*<< 48\)\)/, gate),
  'after the doorbell, before it takes its id': (pool, gate) => gateNextId(pool, /nextval\([^)]*\)/g, gate),
  // Its values are worked out in order, and this one comes last.
  'before it inserts its row': (pool, gate) =>
    pool.query(
      `alter view outbox_appending alter created_at set default
         case when case when current_setting('test.gate', true) = 'on' then ${gate.wait} is null else false end
              then null else clock_timestamp() end`,
    ),
  'after it inserted its row': (pool, gate) => gateFunction(pool, 'outbox_append', /return id;/, gate),
};

/** The same for one that leaves a mark. */
const PLACES_MARKING: typeof PLACES = {
  'before it has its lock': (pool, gate) => gateFunction(pool, NEXT_ID_MARKING, /k := /, gate),
  'before it sets the mark': (pool, gate) =>
    gateFunction(pool, NEXT_ID_MARKING, /perform pg_catalog.set_config\('settlewire/, gate),
  'before it tries the doorbell': (pool, gate) =>
    gateFunction(pool, NEXT_ID_MARKING, /if not \(case when/, gate),
  'before it rings': (pool, gate) =>
    gateFunction(pool, NEXT_ID_MARKING, /perform pg_catalog.pg_notify/, gate),
  'after the doorbell, before it takes its id': (pool, gate) =>
    gateFunction(pool, NEXT_ID_MARKING, /return pg_catalog.nextval\(ids\);(?=\s*end\s*\$)/, gate),
};

describe('a cancelled writer', () => {
  let database: TestDatabase;
  let pool: Pool;
  let gate: Gate;
  let writer: Session;
  let sleeper: Session;

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    gate = await makeGate(pool);
    writer = await openSession(pool);
    sleeper = await openSession(pool);
  });

  afterEach(async () => {
    writer.end();
    sleeper.end();
    gate.end();
    await database.drop();
  });

  /** Advisory locks that the writer holds in our key spaces, each as `space mode`. */
  const held = () =>
    column<string>(
      pool,
      `select distinct (classid::bigint >> 16) || ' ' || mode from pg_locks
        where locktype = 'advisory' and objsubid = 1 and pid = $1 and classid::bigint >> 16 between 21335 and 21337 order by 1`,
      [writer.pid],
    );

  for (const [marks, places] of [
    [false, PLACES],
    [true, PLACES_MARKING],
  ] as const)
    for (const [place, putGate] of Object.entries(places)) {
      it(`keeps neither the doorbell nor its lock: ${place}${marks ? ', in an append that leaves a mark' : ''}`, async () => {
        const start = await scalar<number>(pool, 'select outbox_head()');
        // A sleeper makes the writer ring; without one it takes the key and lets it go again.
        if (place === 'before it rings')
          await sleeper.query('select pg_advisory_lock_shared(21336::bigint << 48)');
        if (marks) await forceMarks(pool, true);
        await putGate(pool, gate);
        await gate.shut();
        const { done } = await runToGate(pool, writer, APPEND);
        expect(await held(), 'never the doorbell, at any step').to.deep.equal(
          place === 'before it has its lock' ? [] : ['21335 ShareLock'],
        );
        await pool.query('select pg_cancel_backend($1)', [writer.pid]);
        expect(await done.catch(({ code }) => code)).to.equal(CANCELLED);
        // The error is sent a moment before the transaction has ended.
        await waitFor(async () => (await held()).length === 0, { what: 'its locks to go' });
        await gate.open();
        const next = await append(pool);
        expect(await column(pool, 'select id from outbox_read($1)', [start])).to.deep.equal([next]);
      });
    }

  it(`keeps nothing, whenever it is cancelled (${ATTEMPTS} times, at any moment)`, async () => {
    const canceller = await openSession(pool);
    let cancelled = 0;
    try {
      // Many appends in one statement, each its own try at the doorbell: the mark is thrown away before each.
      const loop = `do $$ begin for i in 1..400 loop
          perform set_config('settlewire.in_flight', '', true);
          perform outbox_append('test:a', 'test:event', '{}');
        end loop; end $$`;
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const done = writer.query(loop).then(
          () => '',
          ({ code }) => code as string,
        );
        await canceller.query('select pg_sleep($1 * random()), pg_cancel_backend($2)', [0.006, writer.pid]);
        const code = await done;
        if (code === CANCELLED) cancelled += 1;
        else expect(code).to.equal('');
        // A cancel that came too late may hit this statement instead.
        await waitFor(() => writer.query('select 1').catch(() => undefined), {
          what: 'the writer to be idle',
        });
        expect(
          await scalar(canceller, `select count(*) from pg_locks where locktype = 'advisory' and pid = $1`, [
            writer.pid,
          ]),
        ).to.equal(0);
      }
    } finally {
      canceller.end();
    }
    expect(cancelled, 'cancelled in the middle').to.be.above(ATTEMPTS / 4);
  });
});
