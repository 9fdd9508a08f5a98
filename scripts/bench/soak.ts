/*
 * A soak: many writers, many subscribers that drop, resume, leave for good and come anew, two instances, one Postgres; for ten
 * minutes and a million events. Whatever each subscriber gets is compared with the outbox while it goes on, so that the ledger
 * holds only what is under way. Fails if anything was missed, repeated or out of order. See docs/benchmarks.md.
 *
 * SOAK_SECONDS (600), SOAK_EVENTS (1000000; the pace is this over the seconds, and a little more), SOAK_SUBSCRIBERS (200).
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createPool } from '../../src/database.ts';
import { startEmbeddedPostgres } from '../../src/embedded/embedded-postgres.ts';
import { migrate } from '../../src/migrate.ts';
import { grantService } from '../../test/support/service-role.ts';
import { relayMetrics, startBenchService } from './support/service.ts';
import { SoakAudience } from './support/soak-audience.ts';
import { MemoryLog, residentBytes } from './support/soak-memory.ts';
import { SoakWriters } from './support/soak-writers.ts';
import { table } from './support/statistics.ts';

const SECONDS = Number(process.env['SOAK_SECONDS'] ?? 600);
const EVENTS = Number(process.env['SOAK_EVENTS'] ?? 1_000_000);
const SUBSCRIBERS = Number(process.env['SOAK_SUBSCRIBERS'] ?? 200);
const TOPICS = 100;
const WRITERS = 8;
const PROGRESS_MS = 10_000;
const SETTLE_MS = 1000;
/** What has not come so long after the last event is missed. */
const PATIENCE_MS = 60_000;

async function main(): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'settlewire-soak-'));
  await chmod(dataDir, 0o755);
  const postgres = await startEmbeddedPostgres({ dataDir, log: () => {} });
  try {
    await soak(postgres.url);
  } finally {
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function soak(databaseUrl: string): Promise<void> {
  await migrate({ connectionString: databaseUrl, set: 'all' });
  await grantService(databaseUrl);
  const services = [await startBenchService(databaseUrl), await startBenchService(databaseUrl)];
  const pool = createPool(databaseUrl, { max: WRITERS + 4, applicationName: 'soak' });
  const audience = new SoakAudience({
    pool,
    urls: services.map(({ url }) => url),
    subscribers: SUBSCRIBERS,
    topics: TOPICS,
  });
  const memory = services.map(() => new MemoryLog());
  const modes = services.map(() => ({ asleep: 0, awake: 0 }));
  await audience.start();

  const writers = new SoakWriters({
    pool,
    topics: audience.topics,
    writers: WRITERS,
    eventsPerSecond: (EVENTS / SECONDS) * 1.03,
  });
  const startedAt = performance.now();
  const elapsed = (): number => performance.now() - startedAt;
  const observe = async (): Promise<string> => {
    const lines: string[] = [];
    for (const [index, service] of services.entries()) {
      const bytes = residentBytes(service.pid);
      memory[index]?.note(elapsed() / 1000, bytes);
      const { asleep } = await relayMetrics(service);
      const mode = modes[index];
      if (mode !== undefined) mode[asleep ? 'asleep' : 'awake'] += 1;
      lines.push(`${Math.round(bytes / 2 ** 20)} MiB ${asleep ? 'asleep' : 'awake'}`);
    }
    return lines.join(', ');
  };
  const running = writers.run();
  let nextProgress = PROGRESS_MS;
  while (elapsed() < SECONDS * 1000) {
    await delay(SETTLE_MS);
    await audience.settle();
    if (elapsed() < nextProgress) continue;
    nextProgress += PROGRESS_MS;
    const { delivered, missed, duplicated, outOfOrder, unexpected } = audience.tally();
    const { open, resumes, newcomers, owed } = audience.state();
    console.log(
      `${Math.round(elapsed() / 1000)} s: ${writers.committed} events committed, ${delivered} delivered, ${owed} under way; missed ${missed}, duplicated ${duplicated}, out of order ${outOfOrder}, unexpected ${unexpected}; ${open} open, ${resumes} resumes, ${newcomers} newcomers; ${await observe()}`,
    );
  }
  writers.stop();
  await running;
  audience.steady();
  const deadline = performance.now() + PATIENCE_MS;
  do await delay(200);
  while ((await audience.settle()) > 0 && performance.now() < deadline);
  const tally = await audience.finish();
  const { resumes, newcomers, rows } = audience.state();

  console.log(
    `\n${table([
      [
        'seconds',
        'events',
        'delivered',
        'missed',
        'duplicated',
        'out of order',
        'unexpected',
        'resumes',
        'newcomers',
      ],
      [
        SECONDS,
        rows,
        tally.delivered,
        tally.missed,
        tally.duplicated,
        tally.outOfOrder,
        tally.unexpected,
        resumes,
        newcomers,
      ].map(String),
    ])}\n`,
  );
  console.log(
    table([
      [
        'RSS, MiB',
        'first quarter: min / median / max',
        'last quarter: min / median / max',
        'slope, MiB/min',
        'relay awake',
      ],
      ...memory.map((log, index) => {
        const { asleep = 0, awake = 0 } = modes[index] ?? {};
        return [
          `instance ${index + 1}`,
          ...log.describe(),
          `${Math.round((100 * awake) / (asleep + awake))} %`,
        ];
      }),
    ]),
  );
  const exits = await Promise.all(services.map((service) => service.terminate()));
  await pool.end();
  const faults = tally.missed + tally.duplicated + tally.outOfOrder + tally.unexpected;
  if (writers.committed !== rows)
    console.log(`\n${writers.committed} events were committed, the outbox has ${rows}`);
  if (exits.some(({ code }) => code !== 0))
    console.log(`\nan instance ended badly: ${JSON.stringify(exits)}`);
  if (faults > 0 || writers.committed !== rows || exits.some(({ code }) => code !== 0)) process.exitCode = 1;
  else if (rows < EVENTS) {
    console.log(`\nexact, but only ${rows} of ${EVENTS} events: this machine is too slow for the pace`);
    process.exitCode = 1;
  }
}

await main();
