import { setTimeout as delay } from 'node:timers/promises';
import type { Pool } from 'pg';
import { checkDatabase, checkInstance } from './checks.ts';
import { type Following, makeFollowing, type Reader } from './following.ts';
import { makeReport, type Report, type Row } from './report.ts';
import { publish, write } from './writers.ts';

export interface VerificationOptions {
  /** At least one connection for each writer. */
  readonly pool: Pool;
  /** Base URLs of the instances. */
  readonly urls: readonly string[];
  /** Each is followed once on every instance. */
  readonly readers: readonly Reader[];
  /** Marks this run's events; no other text may contain it. */
  readonly run: string;
  readonly writers: number;
  readonly seconds: number;
  readonly rollbackPercent: number;
  readonly random: () => number;
}

/** What has not come so long after anything came is missed, in milliseconds. */
const PATIENCE_MS = 5000;
/** The number of the last event on each topic: what comes must have come before it. */
const LAST = 0;

/**
 * Writes marked events, follows them on every instance with subscribers that drop and resume, and compares what each got with
 * what the outbox has.
 * @throws VerifyError, of one line, if it cannot be checked at all
 */
export async function verify(options: VerificationOptions): Promise<Report> {
  const { pool, urls, readers, run } = options;
  const epoch = await checkDatabase(pool, readers[0]?.topic ?? '', run);
  for (const url of urls) await checkInstance(url, readers[0]?.token ?? '', epoch);
  const instances = urls.map((url) => ({
    url,
    followings: readers.map((reader) => makeFollowing(url, reader, options)),
  }));
  const all = instances.flatMap(({ followings }) => followings);
  try {
    await Promise.all(all.map(({ follower }) => follower.follow()));
    const written = await write({ ...options, topics: readers.map(({ topic }) => topic) });
    for (const { follower } of all) follower.steady();
    for (const topic of new Set(readers.map((reader) => reader.topic)))
      await publish(pool, topic, { run, number: LAST });
    await untilQuiet(all);
    return makeReport(run, written, await readRows(pool, readers, run), instances);
  } finally {
    await Promise.allSettled(all.map(({ follower }) => follower.stop()));
  }
}

/** Waits until every subscriber has the last event of its topic, or until nothing has come for long. */
async function untilQuiet(followings: readonly Following[]): Promise<void> {
  let count = -1;
  let since = performance.now();
  while (followings.some(({ events }) => events.at(-1)?.number !== LAST)) {
    const now = followings.reduce((sum, { events }) => sum + events.length, 0);
    if (now !== count) since = performance.now();
    else if (performance.now() - since > PATIENCE_MS) return;
    count = now;
    await delay(20);
  }
}

async function readRows(pool: Pool, readers: readonly Reader[], run: string): Promise<Row[]> {
  const { rows } = await pool.query<Row>(
    `select id, topic, (data ->> 'number')::integer as number
       from outbox where topic = any ($1) and data ->> 'run' = $2 order by id`,
    [readers.map(({ topic }) => topic), run],
  );
  return rows;
}
