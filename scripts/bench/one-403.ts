/*
 * One 403, timed: whether somebody who may not see an id can tell from the answer's time if it exists. Requests for ids of each
 * kind, in random order in each round, over one connection; each kind is compared with ids that exist and are foreign, and these
 * with themselves (a second, independent series), which shows how much of a difference is chance. See docs/security.md.
 *
 * BENCH_ROUNDS (4000) requests of each kind.
 */
import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPool } from '../../src/database.ts';
import { startEmbeddedPostgres } from '../../src/embedded/embedded-postgres.ts';
import { migrate } from '../../src/migrate.ts';
import { grantService } from '../../test/support/service-role.ts';
import { mintToken } from '../../test/support/tokens.ts';
import { startBenchService } from './support/service.ts';
import { machine, percentile, rankComparison, table } from './support/statistics.ts';

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 4000);
const WARM_UP = 300;
const KINDS = ['foreign', 'foreign again', 'missing', 'malformed', 'revoked'] as const;
type Kind = (typeof KINDS)[number];

const ME = '00000000-0000-4000-8000-000000000001';
const OTHER = '00000000-0000-4000-8000-000000000002';

/** Escrows of somebody else, some of which the asker was once a party of. */
async function seed(databaseUrl: string): Promise<{ foreign: string[]; revoked: string[] }> {
  const pool = createPool(databaseUrl, { max: 1 });
  await pool.query('insert into users (id) values ($1), ($2)', [ME, OTHER]);
  const { rows } = await pool.query<{ id: string }>(
    `insert into escrows (title, amount, creator_id) select 'escrow', 1, $1 from generate_series(1, 2000) returning id`,
    [OTHER],
  );
  const ids = rows.map(({ id }) => id);
  const revoked = ids.slice(0, 1000);
  await pool.query(
    `insert into escrow_parties (escrow_id, user_id, role) select id, $2, 'buyer' from unnest($1::uuid[]) id`,
    [revoked, ME],
  );
  await pool.query('delete from escrow_parties');
  await pool.query('vacuum analyze');
  await pool.end();
  return { revoked, foreign: ids.slice(1000) };
}

const agent = new Agent({ keepAlive: true, maxSockets: 1 });

/** Microseconds from the request to the end of its answer. */
function timed(url: string, token: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const began = process.hrtime.bigint();
    const call = request(url, { agent, headers: { Authorization: `Bearer ${token}` } }, (response) => {
      if (response.statusCode !== 403) reject(new Error(`${url} was answered with ${response.statusCode}`));
      response.resume();
      response.on('end', () => resolve(Number(process.hrtime.bigint() - began) / 1000));
    });
    call.on('error', reject);
    call.end();
  });
}

function shuffled<T>(values: readonly T[]): T[] {
  return values
    .map((value) => ({ value, place: Math.random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ value }) => value);
}

const dataDir = await mkdtemp(join(tmpdir(), 'settlewire-403-'));
await chmod(dataDir, 0o755);
const postgres = await startEmbeddedPostgres({ dataDir, log: () => {} });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
try {
  await migrate({ connectionString: postgres.url, set: 'all' });
  await grantService(postgres.url);
  const { foreign, revoked } = await seed(postgres.url);
  const service = await startBenchService(postgres.url);
  const token = mintToken({ sub: ME });
  const idOf: Record<Kind, (round: number) => string> = {
    foreign: (round) => foreign[round % foreign.length] ?? '',
    'foreign again': (round) => foreign[(round * 7 + 3) % foreign.length] ?? '',
    missing: () => randomUUID(),
    malformed: () => `${randomUUID().slice(0, -1)}z`,
    revoked: (round) => revoked[round % revoked.length] ?? '',
  };
  const routes = {
    '/v1/events?topic=escrow:{id}': (id: string) => `/v1/events?topic=escrow:${id}`,
    '/v1/escrows/{id}/events': (id: string) => `/v1/escrows/${id}/events`,
    '/v1/snapshot?topic=escrow:{id}': (id: string) => `/v1/snapshot?topic=escrow:${id}`,
  };
  const rows: string[][] = [
    ['route', 'ids', 'p50 µs', 'p50 / foreign', 'p95 / foreign', 'chance to guess right', 'z'],
  ];
  for (const [name, pathOf] of Object.entries(routes)) {
    const times: Record<Kind, number[]> = {
      foreign: [],
      'foreign again': [],
      missing: [],
      malformed: [],
      revoked: [],
    };
    for (let round = -WARM_UP; round < ROUNDS; round += 1)
      for (const kind of shuffled(KINDS)) {
        const us = await timed(service.url + pathOf(idOf[kind](round + WARM_UP)), token);
        if (round >= 0) times[kind].push(us);
      }
    for (const kind of KINDS) {
      const ratio = (percent: number): string =>
        (percentile(times[kind], percent) / percentile(times.foreign, percent)).toFixed(3);
      const { chance, z } = rankComparison(times[kind], times.foreign);
      rows.push([
        name,
        kind,
        percentile(times[kind], 50).toFixed(0),
        ratio(50),
        ratio(95),
        ...(kind === 'foreign' ? ['', ''] : [chance.toFixed(3), z.toFixed(1)]),
      ]);
    }
  }
  agent.destroy();
  await service.terminate();
  process.stdout.write(`${machine()}; ${ROUNDS} requests of each kind\n\n${table(rows)}\n`);
} finally {
  await postgres.stop();
  await rm(dataDir, { recursive: true, force: true });
}
