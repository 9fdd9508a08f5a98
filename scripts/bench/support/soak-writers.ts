import { setTimeout as delay } from 'node:timers/promises';
import type { Pool } from 'pg';

export interface SoakWritersOptions {
  readonly pool: Pool;
  readonly topics: readonly string[];
  readonly writers: number;
  /** Of all together. */
  readonly eventsPerSecond: number;
}

/** Events in a transaction, on average. */
const EVENTS = 10;
const ROLLBACK_PERCENT = 5;
/** In so many of a hundred transactions the ids are taken a while before COMMIT, so that others overtake them. */
const EARLY_PERCENT = 3;
const LONGEST_PAUSE_MS = 10;

/** Writers that keep to a pace: several events a transaction, some rolled back, some committed long after their ids were taken. */
export class SoakWriters {
  readonly #options: SoakWritersOptions;
  #stopped = false;
  /** Events whose transaction was committed. */
  committed = 0;

  constructor(options: SoakWritersOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    await Promise.all(Array.from({ length: this.#options.writers }, () => this.#write()));
  }

  stop(): void {
    this.#stopped = true;
  }

  async #write(): Promise<void> {
    const { pool, topics, writers, eventsPerSecond } = this.#options;
    const client = await pool.connect();
    const startedAt = performance.now();
    let written = 0;
    while (!this.#stopped) {
      const dueMs = (written * writers * 1000) / eventsPerSecond - (performance.now() - startedAt);
      if (dueMs > 1) await delay(dueMs);
      const events = 1 + Math.floor(Math.random() * (2 * EVENTS - 1));
      const any = Array.from({ length: events }, () => topics[Math.floor(Math.random() * topics.length)]);
      const rollback = Math.random() * 100 < ROLLBACK_PERCENT;
      await client.query('begin');
      await client.query({
        name: 'publish',
        text: `select outbox_publish(topic, 'soak:happened', '{"amount":"12.345678901","status":"active","note":"as long as an event of the catalogue is, about two hundred bytes of it"}')
                 from unnest($1::text[]) topic`,
        values: [any],
      });
      if (rollback || Math.random() * 100 < EARLY_PERCENT) {
        await client.query('set constraints all immediate');
        await delay(Math.random() * LONGEST_PAUSE_MS);
      }
      await client.query(rollback ? 'rollback' : 'commit');
      if (rollback) continue;
      written += events;
      this.committed += events;
    }
    client.release();
  }
}
