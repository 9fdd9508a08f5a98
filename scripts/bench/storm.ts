/*
 * A thundering herd: everybody is cut off, misses some hundred events, and comes back at once with its resume token; then once more without,
 * as a native EventSource does, so that the database is asked what each may see. How long until all have caught up, how many queries that
 * costs the database, and how long a bare loop needs to take the same connections and write the same bytes. See docs/benchmarks.md.
 *
 * BENCH_SUBSCRIBERS (5000), BENCH_BEHIND (500 events each), BENCH_TOPICS (10).
 */
import { setTimeout as delay } from 'node:timers/promises';
import { startPeer, startSettlewire, topicRequests, topicUser } from './support/fanout-target.ts';
import { type Came, Load, type LoadOptions } from './support/load.ts';
import { BenchPostgres } from './support/postgres.ts';
import { judge, machine } from './support/statistics.ts';

const SUBSCRIBERS = Number(process.env['BENCH_SUBSCRIBERS'] ?? 5000);
const BEHIND = Number(process.env['BENCH_BEHIND'] ?? 500);
const TOPICS = Number(process.env['BENCH_TOPICS'] ?? 10);
const DATABASE = 'bench_storm';
const PADDING = 203;
/** Postgres writes its counters down within so long of a session's last statement. */
const COUNTERS_MS = 3000;

/** What the first block of a topic's stream says. */
async function session(url: string, n: number): Promise<{ cursor: number; resumeToken: string }> {
  const [{ path, headers = {} } = { path: '' }] = topicRequests(TOPICS).slice(n);
  const gone = new AbortController();
  const response = await fetch(url + path, { headers, signal: gone.signal });
  let text = '';
  for await (const bytes of response.body ?? []) {
    text += Buffer.from(bytes).toString();
    if (text.includes('event: caught-up')) break;
  }
  gone.abort();
  return JSON.parse(/event: session\ndata: (.*)\n/.exec(text)?.[1] ?? '{}');
}

async function queries(postgres: BenchPostgres): Promise<number> {
  await delay(COUNTERS_MS);
  const [row] = await postgres.query(
    'postgres',
    `select xact_commit + xact_rollback as n from pg_stat_database where datname = '${DATABASE}'`,
  );
  return Number(row?.['n']);
}

/** Opens a stream for everybody at once, and closes them when all have caught up. */
async function herd(
  postgres: BenchPostgres,
  url: string,
  requests: LoadOptions['requests'],
): Promise<{ came: Came; seconds: number; asked: number }> {
  const before = await queries(postgres);
  const load = await Load.open({
    url,
    connections: SUBSCRIBERS,
    atOnce: SUBSCRIBERS,
    caughtUp: true,
    requests,
  });
  const came = await load.report();
  const asked = (await queries(postgres)) - before;
  await load.close();
  return { came, seconds: load.openSeconds, asked };
}

const postgres = await BenchPostgres.create();
try {
  await postgres.start({ flushMs: 0 });
  const target = await startSettlewire('settlewire', {
    postgres,
    database: DATABASE,
    connections: TOPICS,
    topics: TOPICS,
    batchEvents: 1000,
  });
  const sessions = await Promise.all(Array.from({ length: TOPICS }, (_, n) => session(target.url, n)));
  target.load.expect(BEHIND * TOPICS);
  const settled = target.load.came();
  await target.publish({ events: BEHIND * TOPICS, perWrite: 1, padding: PADDING });
  await settled;
  const resuming = await herd(
    postgres,
    target.url,
    sessions.map(({ cursor, resumeToken }, n) => ({
      path: `/v1/events?topic=user:${topicUser(n)}&resume=${resumeToken}`,
      headers: { 'Last-Event-ID': String(cursor) },
    })),
  );
  const asking = await herd(
    postgres,
    target.url,
    topicRequests(TOPICS).map(({ path, headers }, n) => ({
      path,
      headers: { ...headers, 'Last-Event-ID': String(sessions[n]?.cursor) },
    })),
  );
  await target.stop();

  const bare = await startPeer('bare', 1);
  const crowd = await Load.open({
    url: bare.url,
    connections: SUBSCRIBERS,
    atOnce: SUBSCRIBERS,
    requests: [{ path: '/' }],
  });
  crowd.expect(BEHIND * SUBSCRIBERS);
  const all = crowd.came();
  await bare.publish({ events: BEHIND, perWrite: BEHIND, padding: PADDING });
  const bareSeconds = crowd.openSeconds + (await all).seconds;
  await crowd.close();
  await bare.stop();
  process.stdout.write(
    `${machine()}; ${SUBSCRIBERS} at once, ${BEHIND} events behind, ${TOPICS} topics, ${Math.round(resuming.came.bytes / 2 ** 20)} MiB
the bare loop: ${bareSeconds.toFixed(2)} seconds
`,
  );
  for (const [name, { came, seconds, asked }, mostAsked] of [
    ['with resume tokens', resuming, 50],
    ['without', asking, 200],
  ] as const) {
    // The id of caught-up is one more.
    const exact = came.least === BEHIND + 1 && came.most === BEHIND + 1 && came.closed === 0;
    process.stdout.write(
      `${name}:
- everybody caught up and exact: ${exact ? 'yes' : `NO: ${JSON.stringify(came)}`}
- seconds until the last: ${seconds.toFixed(2)}; of the bare loop's ${judge(seconds / bareSeconds, 'at most', 3)}
- queries to Postgres: ${judge(asked, 'at most', mostAsked)}
`,
    );
    if (!exact) process.exitCode = 1;
  }
} finally {
  await postgres.stop();
}
