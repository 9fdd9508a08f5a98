/*
 * What an event costs the server: processor time of the backends for one-row updates, a commit each, in the variants of
 * writer-tax.ts, with nobody else connected. Warm: one session, update after update. Cold: 24 sessions in turn, so that each
 * finds its memory out of the processor's caches, as busy servers do. Variants by turns in short rounds; of all rounds the first quartile,
 * because what else runs on the machine only ever adds; ratios within a round, then the median. Linux only (/proc/PID/schedstat). See docs/benchmarks.md.
 *
 * BENCH_ROUNDS (200).
 */
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { BenchPostgres } from './support/postgres.ts';
import { machine, median, percentile, table } from './support/statistics.ts';
import { STREAMS } from './support/streams.ts';
import { VARIANTS as ALL_VARIANTS, createVariants, type Variant } from './support/variants.ts';

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 200);
/** That of nobody listening: delivery is a matter of other processes. */
const VARIANTS = ALL_VARIANTS.filter(({ name }) => name !== 'delivered' && name !== 'alone');
const SESSIONS = { warm: 1, cold: 24 } as const;
const UPDATES = { warm: 40, cold: 1 } as const;

interface Session {
  readonly client: pg.Client;
  readonly pid: number;
}

async function open(url: string): Promise<Session> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return { client, pid: rows[0]?.pid ?? 0 };
}

/** Microseconds for which these backends have had a processor. */
function cpuOf(sessions: readonly Session[]): number {
  const nanoseconds = sessions.map(({ pid }) =>
    Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]),
  );
  return nanoseconds.reduce((sum, each) => sum + each, 0) / 1000;
}

/** One update of a random stream by each session, in turn. */
async function updateAll(sessions: readonly Session[], times: number): Promise<void> {
  for (let time = 0; time < times; time += 1) {
    for (const { client } of sessions) {
      await client.query({
        name: 'update',
        text: `update streams set last_settled_at = clock_timestamp(), updated_at = clock_timestamp()
                where id = lpad($1::int::text, 32, '0')::uuid`,
        values: [1 + Math.floor(Math.random() * STREAMS)],
      });
    }
  }
}

async function measure(
  postgres: BenchPostgres,
  how: 'warm' | 'cold',
): Promise<Map<Variant['name'], number[]>> {
  const variants = await Promise.all(
    VARIANTS.map(async ({ name }) => ({
      name,
      sessions: await Promise.all(
        Array.from({ length: SESSIONS[how] }, () => open(postgres.url(`bench_${name}`))),
      ),
      costs: [] as number[],
    })),
  );
  for (const { sessions } of variants) await updateAll(sessions, 10);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const index of variants.keys()) {
      const { sessions, costs } = variants[(index + round) % variants.length] as (typeof variants)[number];
      await updateAll(sessions, 1);
      const before = cpuOf(sessions);
      await updateAll(sessions, UPDATES[how]);
      costs.push((cpuOf(sessions) - before) / UPDATES[how] / sessions.length);
    }
  }
  await Promise.all(variants.flatMap(({ sessions }) => sessions.map(({ client }) => client.end())));
  return new Map(variants.map(({ name, costs }) => [name, costs]));
}

const ratio = (costs: Map<Variant['name'], number[]>, of: Variant['name']): string =>
  median(
    (costs.get('settlewire') ?? []).map((cost, round) => cost / (costs.get(of)?.[round] ?? Number.NaN)),
  ).toFixed(2);

const postgres = await BenchPostgres.create();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
try {
  await postgres.start({ flushMs: 0, keepHeap: true });
  await createVariants(postgres);
  const lines: string[][] = [];
  for (const how of ['warm', 'cold'] as const) {
    const costs = await measure(postgres, how);
    const micros = VARIANTS.map(({ name }) => percentile(costs.get(name) ?? [], 25).toFixed(0));
    lines.push([how, ...micros, ratio(costs, 'none'), ratio(costs, 'outbox')]);
  }
  process.stdout.write(
    `${machine()}; ${postgres.version}; µs of a backend's processor time for an update and its commit\n\n`,
  );
  process.stdout.write(
    `${table([['caches', ...VARIANTS.map(({ label }) => label), 'd/a', 'd/c'], ...lines])}\n`,
  );
} finally {
  await postgres.stop();
}
