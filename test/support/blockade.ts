import type { Pool, PoolClient } from 'pg';
import { waitFor } from './wait-for.ts';

/** Holds a table against every reader, so that a test can decide how far a query of the service gets. */
export class Blockade {
  readonly #client: PoolClient;
  readonly #pool: Pool;

  private constructor(client: PoolClient, pool: Pool) {
    this.#client = client;
    this.#pool = pool;
  }

  static async of(pool: Pool, table: string): Promise<Blockade> {
    const client = await pool.connect();
    await client.query(`begin; lock table ${table} in access exclusive mode`);
    return new Blockade(client, pool);
  }

  /** Waits until somebody waits for the table, in a query that contains this text; returns their backends. */
  waiting(text: string, count = 1): Promise<number[]> {
    return untilWaiting(this.#pool, text, count);
  }

  /** Runs a statement, of one who may use the table; it is committed when the blockade is lifted. */
  async meanwhile(statement: string, values: unknown[] = []): Promise<void> {
    await this.#client.query(statement, values);
  }

  async lift(): Promise<void> {
    await this.#client.query('commit');
    this.#client.release();
  }
}

/** Waits until somebody waits for a lock, in a query that contains this text; returns their backends. */
export function untilWaiting(pool: Pool, text: string, count = 1): Promise<number[]> {
  return waitFor(
    async () => {
      const { rows } = await pool.query<{ pid: number }>(
        `select pid from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock' and strpos(query, $1) > 0 and pid <> pg_backend_pid()`,
        [text],
      );
      return rows.length >= count ? rows.map(({ pid }) => pid) : undefined;
    },
    { what: `${count} waiting in ${text}` },
  );
}
