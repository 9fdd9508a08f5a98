import type { Pool } from 'pg';
import { scalar } from './session.ts';
import { makeEscrow, makePerson, makeStream, type Person } from './world.ts';

const STREAMS = 8;
const ESCROWS = 4;

/** Whose changes the storm is about. */
export interface StormWorld {
  readonly people: readonly Person[];
  readonly admin: Person;
  /** Each is between two neighbours in `people`. */
  readonly streams: readonly string[];
  readonly escrows: readonly string[];
}

export async function makeStormWorld(pool: Pool): Promise<StormWorld> {
  const people: Person[] = [];
  for (let n = 1; n <= STREAMS; n += 1) people.push(await makePerson(pool, n));
  const streams: string[] = [];
  for (let n = 0; n < STREAMS; n += 1) streams.push(await makeStream(pool, at(people, n), at(people, n + 1)));
  const escrows: string[] = [];
  for (let n = 0; n < ESCROWS; n += 1) escrows.push(await makeEscrow(pool, at(people, n)));
  return { people, admin: await makePerson(pool, 99, 'ADMIN'), streams, escrows };
}

export function at<T>(items: readonly T[], index: number): T {
  return items[index % items.length] as T;
}

/** What the writers did. */
export interface StormCounts {
  commits: number;
  rollbacks: number;
  /** Times that a look at the outbox found writers in flight. */
  inFlight: number;
}

/**
 * Writers on connections of their own change rows until `over`: a few rows a transaction, random pauses inside and between,
 * one in twenty rolled back, some with constraints immediate so that they hold their ids for a while.
 */
export async function storm(
  pool: Pool,
  world: StormWorld,
  writers: number,
  over: () => boolean,
): Promise<StormCounts> {
  const counts: StormCounts = { commits: 0, rollbacks: 0, inFlight: 0 };
  const watch = async () => {
    while (!over()) {
      if (await scalar(pool, 'select count(*) > 0 from outbox_inflight')) counts.inFlight += 1;
      await pause(20);
    }
  };
  await Promise.all([watch(), ...Array.from({ length: writers }, () => write(pool, world, counts, over))]);
  return counts;
}

async function write(pool: Pool, world: StormWorld, counts: StormCounts, over: () => boolean): Promise<void> {
  const client = await pool.connect();
  try {
    while (!over()) {
      await client.query('begin');
      if (Math.random() < 0.2) await client.query('set constraints all immediate');
      // In the order of their names, so that no two writers wait for each other's rows.
      for (const statement of pickStatements(world)) {
        await client.query(statement);
        if (Math.random() < 0.2) await pause(Math.random() * 15);
      }
      if (Math.random() < 0.05) {
        await client.query('set constraints all immediate; rollback');
        counts.rollbacks += 1;
      } else {
        await client.query('commit');
        counts.commits += 1;
      }
      if (Math.random() < 0.5) await pause(Math.random() * 30);
    }
  } finally {
    client.release();
  }
}

/** Statements of one transaction, in an order in which no two writers wait for each other for ever. */
export function pickStatements({ streams, escrows, people }: StormWorld): string[] {
  const statements = new Set<string>();
  for (let n = 1 + Math.floor(Math.random() * 4); n > 0; n -= 1) {
    const dice = Math.random();
    const any = Math.floor(Math.random() * 1000);
    if (dice < 0.5)
      statements.add(
        `update streams set rate_per_second = rate_per_second + 1 where id = '${at(streams, any)}'`,
      );
    else if (dice < 0.7)
      statements.add(
        `update escrows set status = case status when 'active' then 'disputed' else 'active' end where id = '${at(escrows, any)}'`,
      );
    else if (dice < 0.85)
      statements.add(
        `insert into notifications (user_id, event_type) values ('${at(people, any).id}', 'storm')`,
      );
    else statements.add(`select outbox_publish('stream:${at(streams, any)}', 'test:published', '{"n":1}')`);
  }
  return [...statements].sort();
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
