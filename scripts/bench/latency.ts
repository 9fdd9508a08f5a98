/*
 * Latency: from the writer's COMMIT returning to the event's bytes at a client, while 1,000 subscribers of other topics are
 * attached; beside it, from the same writer and in the same seconds, to a bare program that LISTENs and reads one row. First
 * asleep, at 100 events a second, then polling, with 5,000 other events a second. See docs/benchmarks.md.
 *
 * BENCH_SECONDS (20) a phase, BENCH_RATE (5000) other events a second of the second phase.
 */

import type { BareInput, BareReport } from './support/bare-listener.ts';
import { type Part, startPart } from './support/child.ts';
import { Load } from './support/load.ts';
import { pgbench } from './support/pgbench.ts';
import { BenchPostgres } from './support/postgres.ts';
import type { ProbeInput, ProbeReport } from './support/probe-writer.ts';
import { type RelayMetrics, relayMetrics, startBenchService } from './support/service.ts';
import { judge, machine, percentile, table } from './support/statistics.ts';
import {
  createBareDatabase,
  createDatabase,
  insertStream,
  streamId,
  UPDATE_SCRIPT,
  walletToken,
} from './support/streams.ts';

const SECONDS = Number(process.env['BENCH_SECONDS'] ?? 20);
const RATE = Number(process.env['BENCH_RATE'] ?? 5000);
const PER_SECOND = 100;
const CROWD = 1000;
const POLL_INTERVAL_MS = 5;
/** The probe's own wallet and stream: nobody else's. */
const PROBE = { stream: 999_999, streamId: streamId(999_999), token: walletToken(1000) };

const part = (name: string): URL => new URL(`support/${name}.ts`, import.meta.url);

interface Parts {
  readonly bare: Part<BareReport>;
  readonly probe: Load;
  readonly metrics: () => Promise<RelayMetrics>;
}

interface Latencies {
  readonly bareMs: number[];
  readonly settlewireMs: number[];
  readonly relay: string;
}

/** When each event of the probe came, in microseconds; each once, in order. */
async function arrivals(probe: Load): Promise<number[]> {
  const [stream] = await probe.kept();
  const events = stream?.events ?? [];
  if (events.some(({ id }, index) => id <= (events[index - 1]?.id ?? 0))) throw new Error('not in order');
  return events.map(({ at }) => at);
}

/** Writes to both databases by turns and measures both ways. */
async function probe(
  postgres: BenchPostgres,
  { bare, probe, metrics }: Parts,
  seconds: number,
): Promise<Latencies> {
  const before = {
    bare: (await bare.report()).arrivals.length,
    probe: (await arrivals(probe)).length,
  };
  const relayBefore = await metrics();
  const input: ProbeInput = {
    probes: ['bench_bare', 'bench_settlewire'].map((database) => ({
      databaseUrl: postgres.url(database),
      streamId: PROBE.streamId,
    })),
    perSecond: PER_SECOND,
    seconds,
  };
  const writer = await startPart<ProbeReport>(part('probe-writer'), input);
  const { commits } = await writer.report();
  const relay = await metrics();
  await new Promise((resolve) => setTimeout(resolve, 200));
  // Whoever gets every event of one writer once, and in order, has them as they were written.
  const latencies = (arrivals: readonly number[], commitsOf: readonly number[] = []): number[] =>
    arrivals.map((at, index) => (at - (commitsOf[index] ?? Number.NaN)) / 1000);
  const result = {
    bareMs: latencies((await bare.report()).arrivals.slice(before.bare), commits[0]),
    settlewireMs: latencies((await arrivals(probe)).slice(before.probe), commits[1]),
    relay: `${relay.asleep ? 'asleep' : 'awake'}, ${relay.rings - relayBefore.rings} rings, ${relay.reads - relayBefore.reads} reads, ${relay.events - relayBefore.events} events`,
  };
  await writer.stop();
  const writes = PER_SECOND * seconds;
  if (result.bareMs.length !== writes || result.settlewireMs.length !== writes)
    throw new Error(`of ${writes} writes ${result.bareMs.length} and ${result.settlewireMs.length} arrived`);
  return result;
}

function rows(
  phase: string,
  { bareMs, settlewireMs, relay }: Latencies,
  limits?: { p50: number; p99: number },
): string[][] {
  return ([50, 99] as const).map((percent) => {
    const bare = percentile(bareMs, percent);
    const ours = percentile(settlewireMs, percent);
    const limit = limits?.[`p${percent}`];
    const inPolls = `${judge(ours / POLL_INTERVAL_MS, 'at most', 3)} poll intervals`;
    const verdict =
      limit !== undefined ? judge(ours / bare, 'at most', limit) : percent === 99 ? inPolls : '';
    return [phase, `p${percent}`, `${bare.toFixed(2)} ms`, `${ours.toFixed(2)} ms`, verdict, relay];
  });
}

const postgres = await BenchPostgres.create();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
try {
  await postgres.start({ flushMs: 0 });
  await createDatabase(postgres, 'bench_settlewire');
  await createBareDatabase(postgres, 'bench_bare');
  for (const database of ['bench_settlewire', 'bench_bare']) {
    await postgres.query(database, insertStream(PROBE.streamId, 'payer1000'));
    await postgres.query(database, 'vacuum analyze');
  }
  const service = await startBenchService(postgres.url('bench_settlewire'), {
    POLL_INTERVAL_MS: String(POLL_INTERVAL_MS),
  });
  const subscriber = (stream: number, token: string) => ({
    path: `/v1/streams/${streamId(stream)}/events`,
    headers: { Authorization: `Bearer ${token}` },
  });
  const crowd = await Load.open({
    url: service.url,
    connections: CROWD,
    // Each on one stream that the second phase updates too, as dashboards of one stream are.
    requests: Array.from({ length: CROWD }, (_, n) => subscriber(n + 1, walletToken((n + 1) % 100))),
    caughtUp: true,
  });
  const bareInput: BareInput = { databaseUrl: postgres.url('bench_bare') };
  const parts: Parts = {
    probe: await Load.open({
      url: service.url,
      connections: 1,
      requests: [subscriber(PROBE.stream, PROBE.token)],
      caughtUp: true,
      keep: true,
    }),
    bare: await startPart<BareReport>(part('bare-listener'), bareInput),
    metrics: () => relayMetrics(service),
  };
  await probe(postgres, parts, 1);
  const asleep = await probe(postgres, parts, SECONDS);
  const load = {
    database: 'bench_settlewire',
    clients: 8,
    seconds: SECONDS + 10,
    script: UPDATE_SCRIPT,
    rate: RATE,
  };
  let loaded = true;
  const loading = pgbench(postgres, load).finally(() => {
    loaded = false;
  });
  await probe(postgres, parts, 1);
  const polling = await probe(postgres, parts, SECONDS);
  if (!loaded) throw new Error('the other events ended before the phase did');
  const rate = await loading;
  await Promise.all([parts.probe.close(), parts.bare.stop(), crowd.close()]);
  await service.terminate();
  const heading = ['phase', '', 'bare', 'settlewire', 'settlewire / bare', 'relay'];
  const lines = [
    ...rows(`${PER_SECOND} events a second`, asleep, { p50: 2, p99: 3 }),
    ...rows(`and ${rate.toFixed(0)} others a second`, polling),
  ];
  process.stdout.write(
    `${machine()}; ${postgres.version}; ${CROWD} subscribers on other streams\n\n${table([heading, ...lines])}\n`,
  );
} finally {
  await postgres.stop();
}
