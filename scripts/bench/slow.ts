/*
 * What do stalled tabs cost the others? 500 subscribers of one busy topic read; then 500 more of the same topic come, stop reading
 * and hang on; then they go. In each of the phases: how long bursts take until the last healthy one has all of them, and how
 * late single events are. Prints the ratios of the middle phase to the other two, and the service's memory.
 *
 *   npm run bench:slow        # an embedded PostgreSQL 18; BENCH_ROUNDS (5), BENCH_EVENTS (4000) a burst
 */
import pg from 'pg';
import { migrate } from '../../src/migrate.ts';
import { startPostgresServer } from '../../test/support/postgres-server.ts';
import { grantService } from '../../test/support/service-role.ts';
import { nowMicroseconds, type Part, startPart } from './support/child.ts';
import { metricOf, startBenchService } from './support/service.ts';
import type { SlowAudienceInput, SlowAudienceReport } from './support/slow-audience.ts';
import { residentBytes } from './support/soak-memory.ts';
import { judge, machine, median, percentile, table } from './support/statistics.ts';
import { streamId, walletToken } from './support/streams.ts';

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 5);
const EVENTS = Number(process.env['BENCH_EVENTS'] ?? 4000);
const CLIENTS = 500;
const SINGLES = 200;
/** What each of the stalled may have waiting in the service. */
const BUFFER_BYTES = 262_144;
/** More than the kernel takes for a socket that nobody reads. */
const FLOOD_BYTES = 12_000_000;
const MIB = 2 ** 20;
const TOPIC = `stream:${streamId(1)}`;
const DATABASE = `settlewire_bench_${process.pid}`;
const AUDIENCE = new URL('support/slow-audience.ts', import.meta.url);

interface Phase {
  /** Deliveries a second of each burst. */
  readonly rates: readonly number[];
  readonly latenciesMs: readonly number[];
  readonly residentMib: number;
}

type Audience = Part<SlowAudienceReport>;

async function publish(db: pg.Client, events: number, bytes: number): Promise<void> {
  await db.query(
    `select outbox_publish($1, 'bench:burst', json_build_object('n', n, 'pad', repeat('x', $3)))
       from generate_series(1, $2) n`,
    [TOPIC, events, bytes],
  );
}

/** Waits until each healthy one has so many events; returns when the last of them came, in microseconds. */
async function received(healthy: Audience, total: number): Promise<SlowAudienceReport> {
  for (let waits = 0; waits < 6000; waits += 1) {
    const report = await healthy.report();
    if (report.ended > 0) throw new Error(`${report.ended} healthy streams have ended`);
    if (report.events.some((count) => count > total)) throw new Error('a healthy stream got too much');
    if (report.events.every((count) => count === total)) return report;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('a healthy stream did not get everything');
}

/** Bursts and single events for those who read. */
async function measure(
  db: pg.Client,
  healthy: Audience,
  pid: number,
  before: number,
): Promise<Phase & { total: number }> {
  let total = before;
  const rates: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const startedAt = nowMicroseconds();
    await publish(db, EVENTS, 150);
    total += EVENTS;
    const { lastAt } = await received(healthy, total);
    rates.push((CLIENTS * EVENTS) / ((lastAt - startedAt) / 1e6));
  }
  for (let n = 0; n < SINGLES; n += 1) {
    await db.query(`select outbox_publish($1, 'bench:single', json_build_object('at', $2::bigint))`, [
      TOPIC,
      nowMicroseconds(),
    ]);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  total += SINGLES;
  const { latenciesMs } = await received(healthy, total);
  return { rates, latenciesMs, residentMib: residentBytes(pid) / MIB, total };
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
const server = await startPostgresServer(process.env);
try {
  const admin = new pg.Client({ connectionString: server.url });
  await admin.connect();
  await admin.query(`create database ${DATABASE}`);
  await admin.end();
  const url = new URL(server.url);
  url.pathname = `/${DATABASE}`;
  await migrate({ connectionString: url.href, set: 'all' });
  await grantService(url.href);
  const db = new pg.Client({ connectionString: url.href });
  await db.connect();
  await db.query(
    `insert into streams (id, payer, recipient, status, rate_per_second, total_amount)
     values ($1, 'payer0', 'recipient', 'active', 0.001, 0)`,
    [streamId(1)],
  );
  const service = await startBenchService(url.href, { STALL_SECONDS: '3600' });
  const input = { url: `${service.url}/v1/events?topic=${TOPIC}`, token: walletToken(0), streams: CLIENTS };
  const healthy: Audience = await startPart(AUDIENCE, {
    ...input,
    stalled: false,
  } satisfies SlowAudienceInput);

  // The flood that fills the buffers of the stalled fills the replay window, too: with it memory is compared, before and after.
  const flood = Math.ceil(FLOOD_BYTES / 15_000);
  await publish(db, flood, 15_000);
  await received(healthy, flood);
  const alone = await measure(db, healthy, service.pid, flood);
  const stalled: Audience = await startPart(AUDIENCE, {
    ...input,
    stalled: true,
  } satisfies SlowAudienceInput);
  await publish(db, flood, 15_000);
  await received(healthy, alone.total + flood);
  const beside = await measure(db, healthy, service.pid, alone.total + flood);
  const waiting = await metricOf(service, 'settlewire_buffered_bytes');
  const again = await measure(db, healthy, service.pid, beside.total);
  const hanging = CLIENTS - (await stalled.report()).ended;
  await stalled.stop();
  const after = await measure(db, healthy, service.pid, again.total);
  await healthy.stop();
  await service.terminate();
  await db.end();

  const rate = median([...alone.rates, ...after.rates]);
  const latencies = [...alone.latenciesMs, ...after.latenciesMs];
  const rows = [
    ['phase', 'deliveries a second, bursts', 'p50', 'p99', 'RSS of the service'],
    ...(
      [
        [`${CLIENTS} healthy`, alone],
        [`and ${hanging} stalled`, beside],
        ['the same, later', again],
        ['healthy alone again', after],
      ] as const
    ).map(([name, { rates, latenciesMs, residentMib }]) => [
      name,
      median(rates).toFixed(0),
      `${percentile(latenciesMs, 50).toFixed(1)} ms`,
      `${percentile(latenciesMs, 99).toFixed(1)} ms`,
      `${residentMib.toFixed(0)} MiB`,
    ]),
  ];
  const besideThem = [...beside.latenciesMs, ...again.latenciesMs];
  const ratio = (percent: number): string =>
    (percentile(besideThem, percent) / percentile(latencies, percent)).toFixed(2);
  process.stdout.write(
    `${machine()}; ${ROUNDS} bursts of ${EVENTS} events and ${SINGLES} single ones a phase

${table(rows)}

healthy throughput beside the stalled / alone: ${judge(median([...beside.rates, ...again.rates]) / rate, 'at least', 0.95)}
healthy latency beside the stalled / alone: p50 ${ratio(50)}, p99 ${ratio(99)}
waiting for the stalled / what their buffers may hold: ${judge(waiting / (CLIENTS * BUFFER_BYTES), 'at most', 1)}
RSS beside the stalled, later / sooner: ${judge(again.residentMib / beside.residentMib, 'at most', 1.1)}
`,
  );
} finally {
  await server.stop();
}
