/*
 * Whose what a writer pays is: the update of bench:writer-tax at 32 clients and a flush of 1 ms, by turns of half a second, so that the
 * machine's bad seconds are everybody's. Beside the plain outbox and settlewire stand the least programs that can deliver, one in Node and
 * one in C, over either outbox, and either outbox as its sessions keep the memory of a transaction for the next and as they do not. See docs/benchmarks.md.
 *
 * BENCH_ROUNDS (60), BENCH_TURN_MS (500), BENCH_WARM_SECONDS (45), BENCH_CLIENTS (32), BENCH_FLUSH_MS (1).
 */
import type { BareRelayReport } from './support/bare-relay.ts';
import { startPart } from './support/child.ts';
import { checkExactness, followWallets } from './support/exactness.ts';
import { LeastRelay } from './support/least-relay.ts';
import { Load } from './support/load.ts';
import { BenchPostgres } from './support/postgres.ts';
import { startBenchService } from './support/service.ts';
import { judge, machine, median, percentile, table } from './support/statistics.ts';
import { UPDATE_SCRIPT } from './support/streams.ts';
import { type Contestant, Turns } from './support/turns.ts';
import { createVariant, KEEPING_NO_HEAP, PLAIN_KEEPING_HEAP, type Variant } from './support/variants.ts';

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 60);
const TURN_MS = Number(process.env['BENCH_TURN_MS'] ?? 500);
const TRIM_MS = TURN_MS / 4;
const WARM_SECONDS = Number(process.env['BENCH_WARM_SECONDS'] ?? 45);
const CLIENTS = Number(process.env['BENCH_CLIENTS'] ?? 32);
const FLUSH_MS = Number(process.env['BENCH_FLUSH_MS'] ?? 1);
const SUBSCRIBERS = 50;

interface Entry extends Contestant {
  readonly label: string;
}

// Each program that is started listens for our exit, to end with us.
process.setMaxListeners(40);
const ends: (() => Promise<unknown>)[] = [];

function subscribe(url: string, keep = false): Promise<Load> {
  return Load.open({
    url,
    connections: SUBSCRIBERS,
    requests: Array.from({ length: SUBSCRIBERS }, (_, n) => ({ path: `/${n}` })),
    keep,
  });
}

/** A database with nobody who listens; `but` is what it has otherwise than the variant, in SQL. */
async function alone(
  postgres: BenchPostgres,
  name: Variant['name'],
  label: string,
  { database = `turns_${name}`, but = '' } = {},
): Promise<Entry> {
  await createVariant(postgres, name, database);
  if (but !== '') await postgres.query(database, but);
  return { database, label, helpers: [] };
}

async function withLeastRelay(postgres: BenchPostgres, entry: Entry, tableName: string): Promise<Entry> {
  const relay = await LeastRelay.start(postgres.url(entry.database), tableName);
  ends.push(() => relay.stop());
  const load = await subscribe(relay.url);
  ends.push(() => load.close());
  return { ...entry, helpers: [relay.pid] };
}

async function withBareRelay(postgres: BenchPostgres, entry: Entry): Promise<Entry> {
  const relay = await startPart<BareRelayReport>(new URL('support/bare-relay.ts', import.meta.url), {
    databaseUrl: postgres.url(entry.database),
    pollIntervalMs: 5,
  });
  ends.push(() => relay.stop());
  const load = await subscribe(`http://127.0.0.1:${(await relay.report()).port}`);
  ends.push(() => load.close());
  return { ...entry, helpers: [relay.pid] };
}

async function withService(
  postgres: BenchPostgres,
  entry: Entry,
): Promise<{ entry: Entry; subscribers: Load }> {
  // Stopped while the others have their turns, it is to take none of that for a database that does not answer.
  const service = await startBenchService(postgres.url(entry.database), { RELAY_TIMEOUT_MS: '60000' });
  ends.push(() => service.terminate());
  const subscribers = await followWallets(service.url, SUBSCRIBERS);
  ends.push(() => subscribers.close());
  return { entry: { ...entry, helpers: [service.pid] }, subscribers };
}

const postgres = await BenchPostgres.create();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
try {
  await postgres.start({ flushMs: 0 });
  const none = await alone(postgres, 'none', 'a: no trigger');
  const plain = await alone(postgres, 'outbox', 'c: plain outbox');
  const keepingHeap = { database: 'turns_c_heap', but: PLAIN_KEEPING_HEAP };
  const keepingNone = { database: 'turns_d_no_heap', but: KEEPING_NO_HEAP };
  const entries = [
    await alone(postgres, 'outbox', 'c, its sessions keep their memory', keepingHeap),
    await alone(postgres, 'outbox', 'c, the least deliverer in C', { database: 'turns_c_least' }),
    await alone(postgres, 'outbox', 'c, the least deliverer in Node', { database: 'turns_c_bare' }),
    await alone(postgres, 'alone', 'd, nobody listening, its sessions keep none', keepingNone),
    await alone(postgres, 'alone', 'd, nobody listening'),
    await alone(postgres, 'alone', 'd, the least deliverer in C', { database: 'turns_d_least' }),
    await alone(postgres, 'settlewire', 'd: settlewire'),
  ] as const;
  const [cHeap, cLeast, cBare, dNoHeap, append, dLeast, served] = entries;
  await postgres.start({ flushMs: FLUSH_MS });
  const { entry: settlewire, subscribers } = await withService(postgres, served);
  const contestants: Entry[] = [
    none,
    plain,
    cHeap,
    await withLeastRelay(postgres, cLeast, 'plain_outbox'),
    await withBareRelay(postgres, cBare),
    dNoHeap,
    append,
    await withLeastRelay(postgres, dLeast, 'outbox'),
    settlewire,
  ];
  process.stdout.write(
    `${machine()}; ${postgres.version}; ${CLIENTS} clients, flush ${FLUSH_MS} ms; ${ROUNDS} rounds of turns of ${TURN_MS} ms\n`,
  );
  const turns = await Turns.begin(postgres, contestants, {
    clients: CLIENTS,
    script: UPDATE_SCRIPT,
    turnMs: TURN_MS,
    trimMs: TRIM_MS,
  });
  try {
    await turns.warm(WARM_SECONDS * 1000);
    for (let round = 0; round < ROUNDS; round += 1) await turns.round(round);
  } finally {
    await turns.end();
  }
  const of = (entry: Entry): number[] =>
    [...turns.commits].find(([{ database }]) => database === entry.database)?.[1] ?? [];
  const ratios = (entry: Entry, to: Entry): number[] => {
    const base = of(to);
    return of(entry).map((commits, round) => commits / (base[round] ?? Number.NaN));
  };
  const lines = contestants.map((entry) => {
    const all = ratios(entry, plain);
    return [
      entry.label,
      median(of(entry)).toFixed(0),
      median(all).toFixed(2),
      `${percentile(all, 25).toFixed(2)} to ${percentile(all, 75).toFixed(2)}`,
    ];
  });
  const heading = ['', 'commits a second, median', '/ c, median of the rounds', 'quartiles'];
  process.stdout.write(`\n${table([heading, ...lines])}\n\n`);
  const ratio = (entry: Entry, to: Entry): number => median(ratios(entry, to));
  process.stdout.write(`d / a: ${judge(ratio(settlewire, none), 'at least', 0.7)}\n`);
  process.stdout.write(`d / c: ${judge(ratio(settlewire, plain), 'at least', 0.88)}\n`);
  process.stdout.write(`d / c, whose sessions keep their memory: ${ratio(settlewire, cHeap).toFixed(2)}\n`);
  process.stdout.write(`d / d with nobody listening: ${ratio(settlewire, append).toFixed(2)}\n`);
  process.stdout.write(`${await checkExactness(postgres.url(settlewire.database), subscribers)}\n`);
} finally {
  for (const end of ends.reverse()) await end();
  await postgres.stop();
}
