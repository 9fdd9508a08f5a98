/*
 * A long way back: one subscriber who has missed a million events, then twenty at once, while somebody else gets live events. How fast
 * the replays are, what they cost in memory, and how long the live ones take; beside those, a bare program that LISTENs and reads one row on the
 * same machine at the same time. See docs/benchmarks.md.
 *
 * BENCH_ROWS (1000000), BENCH_AT_ONCE (20).
 */
import { readFileSync, writeFileSync } from 'node:fs';
import pg from 'pg';
import { createPool } from '../../src/database.ts';
import { migrate } from '../../src/migrate.ts';
import { waitFor } from '../../test/support/wait-for.ts';
import type { BareReport } from './support/bare-listener.ts';
import { nowMicroseconds, startPart } from './support/child.ts';
import { topicRequests, topicUser } from './support/fanout-target.ts';
import { Load } from './support/load.ts';
import { BenchPostgres } from './support/postgres.ts';
import { startBenchService } from './support/service.ts';
import { residentBytes } from './support/soak-memory.ts';
import { judge, machine, percentile, table } from './support/statistics.ts';
import { createBareDatabase, insertStream, streamId } from './support/streams.ts';

const ROWS = Number(process.env['BENCH_ROWS'] ?? 1_000_000);
const AT_ONCE = Number(process.env['BENCH_AT_ONCE'] ?? 20);
const DATABASE = 'bench_replay';
const MIB = 2 ** 20;
/** The row of the bare program. */
const PROBE = streamId(999_999);

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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
  await createBareDatabase(postgres, 'bench_bare');
  await postgres.query('bench_bare', insertStream(PROBE, 'nobody'));
  const service = await startBenchService(databaseUrl, { HEARTBEAT_SECONDS: '150' });
  const pool = createPool(databaseUrl, { max: 2 });
  const live = await Load.open({
    url: service.url,
    connections: 1,
    requests: topicRequests(2).slice(1),
    caughtUp: true,
    keep: true,
  });

  const bareClient = new pg.Client({ connectionString: postgres.url('bench_bare') });
  await bareClient.connect();
  const bareListener = await startPart<BareReport>(new URL('support/bare-listener.ts', import.meta.url), {
    databaseUrl: postgres.url('bench_bare'),
  });

  /** When each live event came: all of them, in order. */
  async function arrivals(): Promise<number[]> {
    const [stream] = await live.kept();
    return stream?.events.map(({ at }) => at) ?? [];
  }

  /** From the return of COMMIT to the bytes at the client, and to the row at the bare program, by turns while `work` goes on. */
  async function probing<T>(work: Promise<T>): Promise<{ result: T; liveMs: number[]; bareMs: number[] }> {
    const commits: { live: number[]; bare: number[] } = { live: [], bare: [] };
    const before = { live: (await arrivals()).length, bare: (await bareListener.report()).arrivals.length };
    let over = false;
    void work.finally(() => {
      over = true;
    });
    do {
      await pool.query(`select outbox_publish('user:${topicUser(1)}', 'test:happened', '{}')`);
      commits.live.push(nowMicroseconds());
      await pause(5);
      await bareClient.query(`update streams set total_amount = total_amount + 1 where id = '${PROBE}'`);
      commits.bare.push(nowMicroseconds());
      await pause(5);
    } while (!over);
    const all = async (): Promise<boolean> =>
      (await arrivals()).length === before.live + commits.live.length &&
      (await bareListener.report()).arrivals.length === before.bare + commits.bare.length;
    await waitFor(all, { what: 'the last live event and the last row' });
    const since = (came: readonly number[], commits: readonly number[]): number[] =>
      commits.map((at, index) => ((came[index] ?? Number.NaN) - at) / 1000);
    return {
      result: await work,
      liveMs: since((await arrivals()).slice(before.live), commits.live),
      bareMs: since((await bareListener.report()).arrivals.slice(before.bare), commits.bare),
    };
  }

  const latencies = ({ liveMs, bareMs }: { liveMs: number[]; bareMs: number[] }): string[] =>
    [50, 99].map((percent) => {
      const [live, bare] = [percentile(liveMs, percent), percentile(bareMs, percent)];
      return `${live.toFixed(1)}, ${bare.toFixed(1)}, ${(live / bare).toFixed(1)} x`;
    });

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
    const probed = await probing(opening);
    const load = probed.result;
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
      ...latencies(probed),
    ];
  }

  const quiet = await probing(pause(5000));
  const rows = [['none', '', '', '', ...latencies(quiet)], ...[await replay(1), await replay(AT_ONCE)]];
  const heading = [
    'replays at once',
    'seconds',
    'events a second',
    'peak RSS growth, MiB',
    'live, bare p50, ms',
    'live, bare p99, ms',
  ];
  process.stdout.write(`${machine()}; ${ROWS} events\n${table([heading, ...rows])}\n`);
  await Promise.all([live.close(), bareListener.stop(), bareClient.end()]);
  await pool.end();
  await service.terminate();
} finally {
  await postgres.stop();
}
