/*
 * What the replay of a feed with many topics costs the database: the whole past of T topics out of 20,000, page by page, by a
 * look-up per topic and as outbox_replay() chooses, which is by slices of ids for many topics with many events; also for topics that had no event
 * at all. In turn, on the same rows; prints milliseconds, medians of the rounds, and their ratio. Runs on TEST_DATABASE_URL or,
 * without it, on an embedded Postgres of its own; the database that it makes is removed at the end.
 *
 *   npm run bench:replay-topics -- [rows] [rounds]
 */
import pg from 'pg';
import { migrate } from '../../src/migrate.ts';
import { readPage } from '../../src/outbox/reader.ts';
import { startPostgresServer } from '../../test/support/postgres-server.ts';

const rows = Number(process.argv[2] ?? 300_000);
const rounds = Number(process.argv[3] ?? 3);
const NAME = `settlewire_bench_${process.pid}`;
const TOPICS = 20_000;
const PAGE = { maxEvents: 500, maxBytes: 131_072 };
const CHOICE = 'cardinality(topics) > 100 and';
const NEVER = 'false and';

async function fill(client: pg.Client): Promise<void> {
  await client.query(
    `insert into outbox (id, topic, type, data, txid, created_at)
     select n, 'stream:' || (hashint8(n)::bigint & 2147483647) % $2, 'stream:updated',
            json_build_object('streamId', n, 'pad', repeat('x', 200)), pg_current_xact_id(), now()
       from generate_series(1, $1) n`,
    [rows, TOPICS],
  );
  await client.query(`select setval('outbox_id_seq', ${rows})`);
  await client.query('vacuum analyze outbox');
}

/** Replays everything; returns events, pages and milliseconds. */
async function replay(client: pg.Client, topics: readonly string[]): Promise<[number, number, number]> {
  const startedAt = performance.now();
  let [cursor, events, pages] = [0, 0, 0];
  while (cursor < rows) {
    const page = await readPage(client, topics, cursor, rows, PAGE);
    cursor = page.reached;
    events += page.events.length;
    pages += 1;
  }
  return [events, pages, performance.now() - startedAt];
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

async function measure(url: string): Promise<void> {
  await migrate({ connectionString: url, set: 'outbox' });
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await fill(client);
    const { rows: found } = await client.query<{ source: string }>(
      `select pg_get_functiondef('outbox_replay'::regproc) as source`,
    );
    const source = found[0]?.source ?? '';
    if (!source.includes(CHOICE)) throw new Error('outbox_replay() chooses in another way');
    const variants = { topic: source.replace(CHOICE, NEVER), chosen: source };
    console.log('topics   events    by topic: pages, ms       as chosen: pages, ms       ratio');
    for (const [kind, count] of [
      ['stream', 50],
      ['stream', 200],
      ['stream', 1000],
      ['stream', 5000],
      ['quiet', 200],
      ['quiet', 1000],
      ['quiet', 5000],
    ] as const) {
      const topics = Array.from({ length: count }, (_, n) => `${kind}:${n}`);
      const times: Record<keyof typeof variants, number[]> = { topic: [], chosen: [] };
      const pages = { topic: 0, chosen: 0 };
      const events = { topic: 0, chosen: 0 };
      for (let round = 0; round < rounds; round += 1)
        for (const variant of ['topic', 'chosen'] as const) {
          await client.query(variants[variant]);
          const [got, read, ms] = await replay(client, topics);
          times[variant].push(ms);
          pages[variant] = read;
          events[variant] = got;
        }
      if (events.topic !== events.chosen) throw new Error('the variants differ');
      const [byTopic, asChosen] = [median(times.topic), median(times.chosen)];
      console.log(
        [
          String(count).padStart(6),
          String(events.topic).padStart(7),
          `${pages.topic}, ${byTopic.toFixed(0)} ms`.padStart(22),
          `${pages.chosen}, ${asChosen.toFixed(0)} ms`.padStart(24),
          `${(byTopic / asChosen).toFixed(2)} ×`.padStart(10),
        ].join('  '),
      );
    }
  } finally {
    await client.end();
  }
}

const server = await startPostgresServer(process.env);
const administrator = new pg.Client({ connectionString: server.url });
await administrator.connect();
try {
  await administrator.query(`create database ${NAME} template template0`);
  const url = new URL(server.url);
  url.pathname = `/${NAME}`;
  await measure(url.href);
} finally {
  await administrator.query(`drop database if exists ${NAME} with (force)`);
  await administrator.end();
  await server.stop();
}
