/*
 * What a writer pays: one-row updates with (a) no trigger, (b) the usual trigger with pg_notify, (c) an outbox without order
 * or doorbell, also with the least program that delivers it, (d) settlewire, its service running and 50 subscribers attached, who get half of all events,
 * and with nobody who listens. Each at 1, 8 and 32 clients, with disk flushes of 1 ms, 5 ms and of nothing, by turns in short rounds on one server. Prints a table of ratios; see docs/benchmarks.md.
 *
 * Before each table of a flush all variants run once without being measured: a service that has just begun has V8 compile it on the writers' processors.
 *
 * BENCH_SECONDS (5) a run, BENCH_ROUNDS (3; 6 are balanced), BENCH_WARM_SECONDS (20), BENCH_CLIENTS (1,8,32), BENCH_FLUSH_MS (1,5,0), BENCH_KEEP_HEAP (1: yes).
 */
import pg from 'pg';
import type { BareRelayReport } from './support/bare-relay.ts';
import { startPart } from './support/child.ts';
import { checkExactness, followWallets } from './support/exactness.ts';
import { Load } from './support/load.ts';
import { pgbench } from './support/pgbench.ts';
import { BenchPostgres } from './support/postgres.ts';
import { type RelayMetrics, relayMetrics, startBenchService } from './support/service.ts';
import { judge, machine, median, table } from './support/statistics.ts';
import { STREAMS, UPDATE_SCRIPT, WALLETS } from './support/streams.ts';
import { createVariants, VARIANTS, type Variant } from './support/variants.ts';

const numbers = (text: string): number[] => text.split(',').map(Number);
const SECONDS = Number(process.env['BENCH_SECONDS'] ?? 5);
const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 3);
const WARM_SECONDS = Number(process.env['BENCH_WARM_SECONDS'] ?? 20);
const CLIENTS = numbers(process.env['BENCH_CLIENTS'] ?? '1,8,32');
const FLUSHES_MS = numbers(process.env['BENCH_FLUSH_MS'] ?? '1,5,0');
/** As a server that is started with glibc told to keep the memory of its sessions, see docs/dba.md. */
const KEEP_HEAP = process.env['BENCH_KEEP_HEAP'] === '1';
const SUBSCRIBERS = 50;
const DATABASE = 'bench_settlewire';

/** The least that (d) may reach of another variant, from the issue that asked for this. */
const TARGETS: readonly { flushMs: number; clients: number; of: Variant['name']; atLeast: number }[] = [
  { flushMs: 1, clients: 32, of: 'none', atLeast: 0.7 },
  { flushMs: 1, clients: 32, of: 'outbox', atLeast: 0.88 },
  { flushMs: 1, clients: 32, of: 'notify', atLeast: 8 },
  { flushMs: 1, clients: 1, of: 'none', atLeast: 0.85 },
];

type Round = Record<Variant['name'], number>;

/** Alternating from both ends, so that in as many rounds as there are variants, each shifted by one, each follows each of the others once (a Williams square). */
const ORDER = Array.from(VARIANTS, (_, n) => (n % 2 === 1 ? (n + 1) / 2 : VARIANTS.length - n / 2));

/** Runs all variants once. */
async function runRound(
  postgres: BenchPostgres,
  clients: number,
  round: number,
  seconds = SECONDS,
): Promise<Round> {
  const result: Round = { none: 0, notify: 0, outbox: 0, delivered: 0, alone: 0, settlewire: 0 };
  for (const index of ORDER) {
    const variant = VARIANTS[(index + round) % VARIANTS.length] as Variant;
    const load = { database: `bench_${variant.name}`, clients, seconds, script: UPDATE_SCRIPT };
    result[variant.name] = await pgbench(postgres, load);
  }
  return result;
}

function row(flushMs: number, clients: number, rounds: readonly Round[], relay: string): string[] {
  // Ratios within a round, then their median: what slows the machine for a while slows all variants of that round.
  const ratio = (of: Variant['name']): string => {
    const value = median(rounds.map((round) => round.settlewire / round[of]));
    const target = TARGETS.find(
      (each) => each.flushMs === flushMs && each.clients === clients && each.of === of,
    );
    return target === undefined ? value.toFixed(2) : judge(value, 'at least', target.atLeast);
  };
  const tps = VARIANTS.map(({ name }) => median(rounds.map((round) => round[name])).toFixed(0));
  const ofOutbox = (name: Variant['name']): string =>
    median(rounds.map((round) => round[name] / round.outbox)).toFixed(2);
  const floors = [ofOutbox('delivered'), ofOutbox('alone')];
  const ratios = [ratio('none'), ratio('outbox'), ratio('notify'), ratio('delivered'), ...floors];
  return [`${flushMs} ms`, String(clients), ...tps, ...ratios, relay];
}

function describeRelay(before: RelayMetrics, after: RelayMetrics): string {
  const share = ((100 * (after.rings - before.rings)) / Math.max(1, after.events - before.events)).toFixed(1);
  const reads = ((after.events - before.events) / Math.max(1, after.reads - before.reads)).toFixed(1);
  return `${share} % of events rang, ${reads} events a read`;
}

async function measure(postgres: BenchPostgres, flushMs: number): Promise<string[][]> {
  await postgres.start({ flushMs, keepHeap: KEEP_HEAP });
  const service = await startBenchService(postgres.url(DATABASE));
  const subscribers = await followWallets(service.url, SUBSCRIBERS);
  const bareRelay = await startPart<BareRelayReport>(new URL('support/bare-relay.ts', import.meta.url), {
    databaseUrl: postgres.url('bench_delivered'),
    pollIntervalMs: 5,
  });
  const { port } = await bareRelay.report();
  const bareSubscribers = await Load.open({
    url: `http://127.0.0.1:${port}`,
    connections: SUBSCRIBERS,
    requests: Array.from({ length: SUBSCRIBERS }, (_, n) => ({ path: `/${n}` })),
    keep: true,
  });
  // The usual prototype has a listener, as ours has a relay.
  const listener = new pg.Client({ connectionString: postgres.url('bench_notify') });
  await listener.connect();
  await listener.query('listen usual');
  if (WARM_SECONDS > 0) await runRound(postgres, Math.max(...CLIENTS), 0, WARM_SECONDS);
  const lines: string[][] = [];
  for (const clients of CLIENTS) {
    const rounds: Round[] = [];
    const before = await relayMetrics(service);
    for (let round = 0; round < ROUNDS; round += 1) rounds.push(await runRound(postgres, clients, round));
    lines.push(row(flushMs, clients, rounds, describeRelay(before, await relayMetrics(service))));
    process.stderr.write(`${lines.at(-1)?.join(' | ')}\n`);
  }
  process.stdout.write(`flush ${flushMs} ms: ${await checkExactness(postgres.url(DATABASE), subscribers)}\n`);
  const delivered = await bareRelay.report();
  const bare = await bareSubscribers.report();
  const [written] = await postgres.query(
    'bench_delivered',
    'select count(*)::int as n, min(id)::int as first from plain_outbox',
  );
  process.stdout.write(
    `the bare relay has read ${delivered.events} of ${written?.['n']} events since its start, its subscribers have ${bare.events}\n`,
  );
  if (bare.closed > 0 || bare.events < 0.4 * delivered.events || delivered.events === 0)
    throw new Error('the bare relay did not deliver');
  await listener.end();
  await Promise.all([subscribers.close(), bareSubscribers.close(), bareRelay.stop()]);
  await service.terminate();
  return lines;
}

const postgres = await BenchPostgres.create();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
try {
  await postgres.start({ flushMs: 0 });
  await createVariants(postgres);
  process.stdout.write(
    `${machine()}; ${postgres.version}; ${STREAMS} streams of ${WALLETS} wallets; ${ROUNDS} rounds of ${SECONDS} s; commits a second, medians\n`,
  );
  const heading = [
    'flush',
    'clients',
    ...VARIANTS.map(({ label }) => label),
    'd/a',
    'd/c',
    'd/b',
    'd/c, delivered',
    'c, delivered/c',
    'd, nobody listening/c',
    'relay',
  ];
  const lines: string[][] = [];
  for (const flushMs of FLUSHES_MS) lines.push(...(await measure(postgres, flushMs)));
  process.stdout.write(`\n${table([heading, ...lines])}\n`);
} finally {
  await postgres.stop();
}
