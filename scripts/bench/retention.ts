/*
 * Does the outbox stay as small as what it retains? Appends events for a while at a steady rate with retention at work, and
 * beside it writes the same rows to a plain table whose old rows are DELETEd, autovacuum on, as outboxes usually are. Prints
 * the size of both as time goes on and the ratio of each to its size at the first time when retention was in full swing.
 *
 *   npm run bench:retention            # BENCH_SECONDS (120), BENCH_RATE events a second (2000), BENCH_KEEP_SECONDS (15)
 */
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { migrate } from '../../src/migrate.ts';
import { startPostgresServer } from '../../test/support/postgres-server.ts';

const seconds = Number(process.env['BENCH_SECONDS'] ?? 120);
const rate = Number(process.env['BENCH_RATE'] ?? 2000);
const keepSeconds = Number(process.env['BENCH_KEEP_SECONDS'] ?? 15);
const NAME = `settlewire_bench_${process.pid}`;

const PAYLOAD = JSON.stringify({ streamId: 'x'.repeat(36), status: 'active', ratePerSecond: '1.000000000' });

// Rows of the plain table have the same columns and indexes.
const PLAIN = `
  create table plain (like outbox including defaults);
  alter table plain add primary key (id);
  create index on plain (topic, id);
  create sequence plain_id;
  alter system set autovacuum_naptime = '5s';
  select pg_reload_conf()`;

const SIZES = `
  select (select coalesce(sum(pg_total_relation_size(i.inhrelid)), 0) from pg_inherits i where i.inhparent = 'outbox'::regclass)::float8 as outbox,
         pg_total_relation_size('plain')::float8 as plain,
         (select count(*) from pg_inherits i where i.inhparent = 'outbox'::regclass)::integer as partitions,
         (select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables where relname like 'outbox\\_p%' or relname = 'outbox_default')::integer as outbox_dead,
         (select n_dead_tup from pg_stat_user_tables where relname = 'plain')::integer as plain_dead`;

interface Sizes {
  readonly outbox: number;
  readonly plain: number;
  readonly partitions: number;
  readonly outbox_dead: number;
  readonly plain_dead: number;
}

async function run(url: string): Promise<void> {
  await migrate({ connectionString: url, set: 'outbox' });
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const ids = Math.max(1000, Math.round((rate * keepSeconds) / 5));
  for (const statement of PLAIN.split(';')) await client.query(statement);
  // Partitions of a fifth of what is kept; the first ones, made for a million ids, hold nothing yet.
  const { rows: made } = await client.query<{ partition: string }>(
    'select partition from outbox_partitions where from_id is not null',
  );
  for (const { partition } of made) await client.query(`drop table ${partition}`);
  await client.query('update outbox_meta set partition_ids = $1', [ids]);
  await client.query('select outbox_add_partitions()');

  console.log(`${rate} events a second, kept for ${keepSeconds} s, partitions of ${ids} ids; ${seconds} s`);
  console.log('seconds   events   outbox MB  partitions  dead rows   plain MB  dead rows');
  const startedAt = performance.now();
  let written = 0;
  let first: Sizes | undefined;
  let last: Sizes | undefined;
  for (let second = 1; second <= seconds; second += 1) {
    for (let tenth = 0; tenth < 10; tenth += 1) {
      const count = Math.round(rate / 10);
      await client.query(
        `select outbox_append('stream:' || (n % 500), 'stream:updated', $2::json) from generate_series(1, $1::integer) n`,
        [count, PAYLOAD],
      );
      await client.query(
        `insert into plain select nextval('plain_id'), 'stream:' || (n % 500), 'stream:updated', $2::json, pg_current_xact_id(), clock_timestamp() from generate_series(1, $1::integer) n`,
        [count, PAYLOAD],
      );
      written += count;
      await delay(Math.max(0, startedAt + (second - 1 + (tenth + 1) / 10) * 1000 - performance.now()));
    }
    await client.query('select outbox_add_partitions()');
    await client.query('select outbox_drop_partitions(now() - make_interval(secs => $1))', [keepSeconds]);
    await client.query('delete from plain where created_at < now() - make_interval(secs => $1)', [
      keepSeconds,
    ]);
    if (second % 10 !== 0) continue;
    const { rows } = await client.query<Sizes>(SIZES);
    last = rows[0];
    if (last === undefined) continue;
    if (first === undefined && second >= 2 * keepSeconds) first = last;
    const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1).padStart(10);
    console.log(
      `${String(second).padStart(7)} ${String(written).padStart(8)}  ${megabytes(last.outbox)} ${String(last.partitions).padStart(11)} ${String(last.outbox_dead).padStart(10)} ${megabytes(last.plain)} ${String(last.plain_dead).padStart(10)}`,
    );
  }
  await client.end();
  if (first === undefined || last === undefined)
    throw new Error('BENCH_SECONDS is too short for BENCH_KEEP_SECONDS');
  console.log(
    `size at the end against the first full swing: outbox ${(last.outbox / first.outbox).toFixed(2)}, plain ${(last.plain / first.plain).toFixed(2)}`,
  );
  console.log(`plain against outbox at the end: ${(last.plain / last.outbox).toFixed(2)}`);
}

const server = await startPostgresServer(process.env);
const admin = new pg.Client({ connectionString: server.url });
await admin.connect();
try {
  await admin.query(`create database ${NAME}`);
  const url = new URL(server.url);
  url.pathname = `/${NAME}`;
  await run(url.href);
} finally {
  await admin.query(`drop database if exists ${NAME} with (force)`);
  await admin.end();
  await server.stop();
}
