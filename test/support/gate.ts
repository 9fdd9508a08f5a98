import type { Pool } from 'pg';
import { openSession, type Session, scalar, untilBlocked } from './session.ts';

/** An advisory key outside the outbox's key spaces. */
const KEY = 4711;

/** A place at which sessions wait while the gate is shut. */
export interface Gate {
  /** SQL of an expression that waits there. */
  readonly wait: string;
  shut(): Promise<void>;
  open(): Promise<void>;
  end(): void;
}

export async function makeGate(pool: Pool): Promise<Gate> {
  const keeper = await openSession(pool);
  return {
    wait: `pg_advisory_xact_lock_shared(${KEY})`,
    shut: async () => {
      await keeper.query(`select pg_advisory_lock(${KEY})`);
    },
    open: async () => {
      await keeper.query(`select pg_advisory_unlock(${KEY})`);
    },
    end: () => keeper.end(),
  };
}

/**
 * Puts a gate into a function of the database, before the first (or every) place that matches: the code under test is the
 * migration's own, only slower. Sessions pass unless they `set test.gate = 'on'`.
 */
export async function gateFunction(pool: Pool, name: string, before: RegExp, gate: Gate): Promise<void> {
  await editFunction(
    pool,
    name,
    before,
    (place) => `if current_setting('test.gate', true) = 'on' then perform ${gate.wait}; end if; ${place}`,
  );
}

/** Whether an append leaves a mark is decided by a hash of the last id; from now on each does, or none. */
export function forceMarks(pool: Pool, marks: boolean): Promise<void> {
  return editFunction(pool, 'outbox_next_id', /hashint8\(pg_sequence_last_value\([^)]*\)\)/, () =>
    marks ? '-2147483648' : '0',
  );
}

/** Puts a gate into `outbox_next_id`, an expression: before the value that matches is worked out, in an append without a mark. See {@link gateFunction}. */
export async function gateNextId(pool: Pool, value: RegExp, gate: Gate): Promise<void> {
  await forceMarks(pool, false);
  const shut = `case when current_setting('test.gate', true) = 'on' then ${gate.wait} is null else false end`;
  await editFunction(
    pool,
    'outbox_next_id',
    value,
    (place) => `case when ${shut} then null else ${place} end`,
  );
}

/** Replaces what matches in the source of a function of the database. */
export async function editFunction(
  pool: Pool,
  name: string,
  what: RegExp,
  by: (match: string) => string,
): Promise<void> {
  const source = await scalar<string>(pool, 'select pg_get_functiondef($1::regproc)', [name]);
  const edited = source.replace(what, by);
  if (edited === source) throw new Error(`${name} has no place that matches ${what}`);
  await pool.query(edited);
}

/** Runs a statement up to the gate, which is shut; resolves when it waits there. The statement goes on when the gate opens. */
export async function runToGate(
  pool: Pool,
  session: Session,
  statement: string,
  values: unknown[] = [],
): Promise<{ done: Promise<unknown[][]> }> {
  await session.query("set test.gate = 'on'");
  const done = session
    .query({ text: statement, values, rowMode: 'array' })
    .then(({ rows }) => rows as unknown[][]);
  done.catch(() => {});
  await untilBlocked(pool, session.pid);
  return { done };
}

/** Makes commits that touch a stream wait at the gate, after their events have taken their ids. */
export async function gateStreamCommits(pool: Pool, gate: Gate): Promise<void> {
  await pool.query(`
    create function test_wait_at_commit() returns trigger language plpgsql as $$
    begin
      if current_setting('test.gate', true) = 'on' then perform ${gate.wait}; end if;
      return null;
    end $$;
    create constraint trigger zz_wait_at_commit after update on streams deferrable initially deferred
      for each row execute function test_wait_at_commit();`);
}
