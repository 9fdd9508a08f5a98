import type pg from 'pg';
import { waitFor } from './wait-for.ts';

/** A backend of one's own, whose transaction stays open between calls. */
export interface Session {
  readonly pid: number;
  query: pg.PoolClient['query'];
  /** Ends the backend, whatever it is doing. */
  end(): void;
}

/** Takes a fresh backend out of the pool; it never goes back, so no state of it leaks into another test. */
export async function openSession(pool: pg.Pool): Promise<Session> {
  const client = await pool.connect();
  // A backend that is terminated or crashes fails the query at hand; without a listener it would end the run.
  client.on('error', () => {});
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  let ended = false;
  return {
    pid: rows[0]?.pid ?? 0,
    query: client.query.bind(client) as pg.PoolClient['query'],
    end: () => {
      if (!ended) client.release(true);
      ended = true;
    },
  };
}

/** The first column of the first row. */
export async function scalar<T>(
  db: Pick<pg.Pool, 'query'>,
  text: string,
  values: unknown[] = [],
): Promise<T> {
  const { rows } = await db.query({ text, values, rowMode: 'array' });
  return rows[0]?.[0] as T;
}

/** The first column of every row. */
export async function column<T>(
  db: Pick<pg.Pool, 'query'>,
  text: string,
  values: unknown[] = [],
): Promise<T[]> {
  const { rows } = await db.query({ text, values, rowMode: 'array' });
  return rows.map((row) => row[0] as T);
}

/** Appends an event as a trigger would whose constraints are immediate: the id is taken now. */
export function append(db: Pick<pg.Pool, 'query'>, data = '{}', topic = 'test:a'): Promise<number> {
  return scalar(db, "select outbox_append($1, 'test:event', $2)", [topic, data]);
}

/** Waits until that backend waits for a lock. */
export async function untilBlocked(pool: pg.Pool, pid: number): Promise<void> {
  await waitFor(() => scalar(pool, 'select count(*) from pg_locks where pid = $1 and not granted', [pid]), {
    what: `backend ${pid} to wait for a lock`,
  });
}

/** The error that a promise is rejected with: its SQLSTATE and message. */
export async function failure(promise: Promise<unknown>): Promise<{ code: string; message: string }> {
  try {
    await promise;
  } catch (error) {
    const { code = '', message } = error as pg.DatabaseError;
    return { code, message };
  }
  throw new Error('it did not fail');
}
