/*
 * What the events of a bulk change cost: updates N streams in one transaction, with the event triggers and without them, and
 * prints both and their ratio. Runs on TEST_DATABASE_URL or, without it, on an embedded Postgres of its own; the database
 * that it makes is removed at the end.
 *
 *   npm run bench:bulk -- [rows] [rounds]
 */
import pg from 'pg';
import { migrate } from '../../src/migrate.ts';
import { startPostgresServer } from '../../test/support/postgres-server.ts';

const rows = Number(process.argv[2] ?? 100_000);
const rounds = Number(process.argv[3] ?? 3);
const NAME = `settlewire_bench_${process.pid}`;

interface Timing {
  readonly withTriggers: number;
  readonly without: number;
}

/** Seconds of one transaction that changes every stream, its commit included. */
async function update(client: pg.Client, triggers: boolean): Promise<number> {
  // `replica` turns ordinary triggers off for this session; the update is otherwise the same.
  await client.query(`set session_replication_role = ${triggers ? 'origin' : 'replica'}`);
  await client.query('checkpoint');
  const startedAt = performance.now();
  await client.query('begin');
  await client.query('update streams set rate_per_second = rate_per_second + 1');
  await client.query('commit');
  const seconds = (performance.now() - startedAt) / 1000;
  await client.query('set session_replication_role = origin');
  await client.query('vacuum streams');
  return seconds;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function measure(url: string): Promise<Timing[]> {
  await migrate({ connectionString: url, set: 'all' });
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query('set session_replication_role = replica');
    await client.query(
      `insert into streams (payer, recipient, status, rate_per_second, total_amount)
       select 'payer-' || n, 'recipient-' || n, 'active', 1, 1000 from generate_series(1, $1) n`,
      [rows],
    );
    await client.query('vacuum analyze streams');
    // One round of each that does not count: first use of pages and plans.
    await update(client, false);
    await update(client, true);
    const timings: Timing[] = [];
    for (let round = 0; round < rounds; round += 1)
      timings.push({ without: await update(client, false), withTriggers: await update(client, true) });
    return timings;
  } finally {
    await client.end();
  }
}

const server = await startPostgresServer({
  TEST_POSTGRES: process.env.TEST_DATABASE_URL ? 'url' : 'embedded',
  TEST_DATABASE_URL: process.env.TEST_DATABASE_URL,
});
const admin = new pg.Client({ connectionString: server.url });
await admin.connect();
try {
  await admin.query(`create database ${NAME} template template0`);
  const url = new URL(server.url);
  url.pathname = `/${NAME}`;
  const timings = await measure(url.href);
  const withTriggers = median(timings.map((timing) => timing.withTriggers));
  const without = median(timings.map((timing) => timing.without));
  console.log(`PostgreSQL ${server.version}, one update of ${rows} streams, median of ${rounds}`);
  console.log(`  without triggers  ${without.toFixed(2)} s`);
  console.log(
    `  with events       ${withTriggers.toFixed(2)} s  (${((withTriggers / rows) * 1e6).toFixed(0)} µs a row)`,
  );
  console.log(`  ratio             ${(withTriggers / without).toFixed(1)}`);
} finally {
  await admin.query(`drop database if exists ${NAME} with (force)`);
  await admin.end();
  await server.stop();
}
