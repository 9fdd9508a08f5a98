/*
 * A long way back: one subscriber who has missed a million events, then twenty at once, while somebody else gets live events. How fast
 * the replays are, what they cost in memory, and how long the live ones take. See docs/benchmarks.md.
 *
 * BENCH_ROWS (1000000), BENCH_AT_ONCE (20).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { createPool } from '../../src/database.ts';
import { migrate } from '../../src/migrate.ts';
import { waitFor } from '../../test/support/wait-for.ts';
import { nowMicroseconds } from './support/child.ts';
import { topicRequests, topicUser } from './support/fanout-target.ts';
import { Load } from './support/load.ts';
import { BenchPostgres } from './support/postgres.ts';
import { startBenchService } from './support/service.ts';
import { residentBytes } from './support/soak-memory.ts';
import { judge, machine, percentile, table } from './support/statistics.ts';

const ROWS = Number(process.env['BENCH_ROWS'] ?? 1_000_000);
const AT_ONCE = Number(process.env['BENCH_AT_ONCE'] ?? 20);
const DATABASE = 'bench_replay';
const MIB = 2 ** 20;

const postgres = await BenchPostgres.create();
try {
  await postgres.start({ flushMs: 0 });
  await postgres.query('postgres', `create database ${DATABASE}`);
  const databaseUrl = postgres.url(DATABASE);
  await migrate({ connectionString: databaseUrl, set: 'all' });
  await postgres.query(
    DATABASE,
    `insert into outbox (id, topic, type, data, txid, created_at)
     select nextval('outbox_id_seq'), 'user:${topicUser(0)}', 'test:happened',
            json_build_object('n', n, 'pad', repeat('x', 203)), pg_current_xact_id(), clock_timestamp()
       from generate_series(1, ${ROWS}) n`,
  );
  await postgres.query(DATABASE, 'analyze outbox');
  const service = await startBenchService(databaseUrl, { HEARTBEAT_SECONDS: '150' });
  const pool = createPool(databaseUrl, { max: 2 });
  const live = await Load.open({
    url: service.url,
    connections: 1,
    requests: topicRequests(2).slice(1),
    caughtUp: true,
    keep: true,
  });

  /** When each live event came: all of them, in order. */
  async function arrivals(): Promise<number[]> {
    const [stream] = await live.kept();
    return stream?.events.map(({ at }) => at) ?? [];
  }

  /** From the return of COMMIT to the bytes at the client, while `work` goes on. */
  async function probing<T>(work: Promise<T>): Promise<{ result: T; milliseconds: number[] }> {
    const commits: number[] = [];
    const before = (await arrivals()).length;
    let over = false;
    void work.finally(() => {
      over = true;
    });
    do {
      await pool.query(`select outbox_publish('user:${topicUser(1)}', 'test:happened', '{}')`);
      commits.push(nowMicroseconds());
      await new Promise((resolve) => setTimeout(resolve, 20));
    } while (!over);
    await waitFor(async () => (await arrivals()).length === before + commits.length, {
      what: 'the last live event',
    });
    const came = (await arrivals()).slice(before);
    const milliseconds = commits.map((at, index) => ((came[index] ?? Number.NaN) - at) / 1000);
    return { result: await work, milliseconds };
  }

  async function replay(connections: number): Promise<string[]> {
    // The peak since now, not since the service was started (proc(5)).
    writeFileSync(`/proc/${service.pid}/clear_refs`, '5');
    const before = residentBytes(service.pid);
    const [request] = topicRequests(1);
    if (request === undefined) throw new Error('unreachable');
    const opening = Load.open({
      url: service.url,
      connections,
      caughtUp: true,
      requests: [{ ...request, headers: { ...request.headers, 'Last-Event-ID': '0' } }],
    });
    const { result: load, milliseconds } = await probing(opening);
    const { events, least } = await load.report();
    if (least < ROWS) throw new Error(`somebody got ${least} of ${ROWS}`);
    const peak =
      Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${service.pid}/status`, 'utf8'))?.[1]) * 1024;
    const rate = (events - connections) / load.openSeconds;
    const growth = (peak - before) / MIB;
    await load.close();
    return [
      String(connections),
      load.openSeconds.toFixed(1),
      connections === 1 ? judge(rate, 'at least', 100_000) : rate.toFixed(0),
      connections === 1 ? judge(growth, 'at most', 32) : growth.toFixed(0),
      percentile(milliseconds, 50).toFixed(1),
      percentile(milliseconds, 99).toFixed(1),
    ];
  }

  const quiet = await probing(new Promise((resolve) => setTimeout(resolve, 5000)));
  const rows = [await replay(1), await replay(AT_ONCE)];
  process.stdout.write(
    `${machine()}; ${ROWS} events; live latency without any replay: p50 ${percentile(quiet.milliseconds, 50).toFixed(1)} ms, p99 ${percentile(quiet.milliseconds, 99).toFixed(1)} ms\n${table(
      [
        [
          'replays at once',
          'seconds',
          'events a second',
          'peak RSS growth, MiB',
          'live p50, ms',
          'live p99, ms',
        ],
        ...rows,
      ],
    )}\n`,
  );
  await live.close();
  await pool.end();
  await service.terminate();
} finally {
  await postgres.stop();
}
