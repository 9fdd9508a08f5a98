import { setTimeout as delay } from 'node:timers/promises';
import type { Pool, PoolClient } from 'pg';

export interface WritersOptions {
  /** Enough connections for all writers. */
  readonly pool: Pool;
  /** Marks the events as this run's. */
  readonly run: string;
  readonly topics: readonly string[];
  readonly writers: number;
  readonly seconds: number;
  readonly rollbackPercent: number;
  readonly random: () => number;
}

/** What the writers did. */
export interface Written {
  /** By number of event: when its COMMIT had returned, in milliseconds of `performance.now()`. */
  readonly committed: ReadonlyMap<number, number>;
  readonly transactions: number;
  readonly rolledBack: number;
  /** Transactions that broke off, so that only the outbox knows whether they were committed. */
  readonly unsure: number;
}

/** The type of a run's events. */
export const EVENT_TYPE = 'verify:marked';

/** Most events in one transaction. */
const MOST_EVENTS = 5;
/** Longest pause inside a transaction and between two, in milliseconds. */
const LONGEST_PAUSE_MS = 8;
/** In so many of a hundred transactions the ids are taken before the last pause and not at COMMIT, so that others overtake them. */
const EARLY_PERCENT = 10;

/**
 * Writes events through `outbox_publish` on several connections at once, as backends do: random pauses, several events a
 * transaction, some rolled back after their ids were taken, some committed long after. That is what makes ids appear out of order.
 */
export async function write(options: WritersOptions): Promise<Written> {
  const { pool, writers, seconds } = options;
  const committed = new Map<number, number>();
  const counts = { transactions: 0, rolledBack: 0, unsure: 0, events: 0 };
  const until = performance.now() + seconds * 1000;
  const writer = async (): Promise<void> => {
    while (performance.now() < until) {
      const numbers = Array.from(
        { length: 1 + Math.floor(options.random() * MOST_EVENTS) },
        () => ++counts.events,
      );
      try {
        const client = await pool.connect();
        const done = await transaction(client, numbers, options).finally(() => client.release());
        counts.transactions += 1;
        if (!done) counts.rolledBack += 1;
        else for (const number of numbers) committed.set(number, performance.now());
      } catch {
        // A database that goes away in the middle is part of what may be verified.
        counts.unsure += 1;
        await delay(100);
      }
      await delay(options.random() * LONGEST_PAUSE_MS);
    }
  };
  await Promise.all(Array.from({ length: writers }, writer));
  return { committed, ...counts };
}

/** @returns whether it was committed */
async function transaction(
  client: PoolClient,
  numbers: readonly number[],
  { run, topics, rollbackPercent, random }: WritersOptions,
): Promise<boolean> {
  const rollback = random() * 100 < rollbackPercent;
  await client.query('begin');
  try {
    for (const number of numbers) {
      const topic = topics[Math.floor(random() * topics.length)];
      await publish(client, topic ?? '', { run, number });
    }
    if (rollback || random() * 100 < EARLY_PERCENT) {
      await client.query('set constraints all immediate');
      await delay(random() * LONGEST_PAUSE_MS);
    }
    await client.query(rollback ? 'rollback' : 'commit');
  } catch (error) {
    await client.query('rollback').catch(() => {});
    throw error;
  }
  return !rollback;
}

/** Publishes one event of a run, in the transaction that is open. */
export async function publish(
  client: Pick<Pool, 'query'>,
  topic: string,
  data: { run: string; number: number },
): Promise<void> {
  await client.query('select outbox_publish($1, $2, $3)', [topic, EVENT_TYPE, JSON.stringify(data)]);
}
