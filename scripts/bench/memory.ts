/*
 * What an idle subscriber costs, in resident memory: right after the handshakes, and when they have been idle for a minute, by when V8 has
 * collected what the handshakes left (it waits until little is allocated); then traffic with subscribers coming and going, and resident memory over time as
 * an SVG. See docs/benchmarks.md.
 *
 * BENCH_SUBSCRIBERS (10000), BENCH_SECONDS (600; 0 leaves the second part out), BENCH_PLOT (where to write the SVG; memory.svg).
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { startSettlewire, topicRequests } from './support/fanout-target.ts';
import { Load } from './support/load.ts';
import { plot } from './support/plot.ts';
import { BenchPostgres } from './support/postgres.ts';
import { MemoryLog, residentBytes } from './support/soak-memory.ts';
import { judge, machine, table } from './support/statistics.ts';

const SUBSCRIBERS = Number(process.env['BENCH_SUBSCRIBERS'] ?? 10_000);
const SECONDS = Number(process.env['BENCH_SECONDS'] ?? 600);
const PLOT = process.env['BENCH_PLOT'] ?? 'memory.svg';
const TOPICS = 100;
const WARM_UP = 2000;
const COMING_AND_GOING = 500;
const EVENTS_A_SECOND = 500;
/** After connecting; V8 collects old garbage 8 to 25 s after it has become quiet. */
const FRESH_MS = 5000;
const IDLE_MS = 60_000;
const KIB = 1024;

const postgres = await BenchPostgres.create();
try {
  await postgres.start({ flushMs: 0 });
  // The audience that comes with it warms the code up; it stays, and what comes on top of it is measured.
  const target = await startSettlewire('settlewire', {
    postgres,
    database: 'bench_memory',
    connections: WARM_UP,
    topics: TOPICS,
    batchEvents: 1000,
    environment: { HEARTBEAT_SECONDS: '15' },
  });
  await delay(FRESH_MS + IDLE_MS);
  const before = residentBytes(target.pid);
  const idle = await Load.open({
    url: target.url,
    connections: SUBSCRIBERS,
    requests: topicRequests(TOPICS),
    caughtUp: true,
  });
  const each = (): number => (residentBytes(target.pid) - before) / SUBSCRIBERS / KIB;
  await delay(FRESH_MS);
  const fresh = each();
  await delay(IDLE_MS);
  process.stdout.write(
    `${machine()}\n${SUBSCRIBERS} idle subscribers: ${judge(each(), 'at most', 12)} KiB of resident memory each; ${fresh.toFixed(1)} right after the handshakes\n`,
  );
  await idle.close();

  if (SECONDS > 0) {
    const log = new MemoryLog();
    const samples: [number, number][] = [];
    const startedAt = performance.now();
    const elapsed = (): number => (performance.now() - startedAt) / 1000;
    let connects = 0;
    while (elapsed() < SECONDS) {
      const guests = await Load.open({
        url: target.url,
        connections: COMING_AND_GOING,
        requests: topicRequests(TOPICS),
        caughtUp: true,
      });
      connects += COMING_AND_GOING;
      for (let i = 0; i < 2; i += 1) {
        await target.publish({ events: EVENTS_A_SECOND, perWrite: 1, padding: 203 });
        await delay(1000);
        const bytes = residentBytes(target.pid);
        log.note(elapsed(), bytes);
        samples.push([elapsed(), bytes / 2 ** 20]);
      }
      await guests.close();
    }
    writeFileSync(PLOT, plot(samples, { x: 'seconds', y: 'resident memory, MiB' }));
    process.stdout.write(
      `\n${SECONDS} s, ${WARM_UP} subscribers stay, ${connects} came and went\n${table([
        [
          'RSS, MiB',
          'first quarter: min / median / max',
          'last quarter',
          'slope of the second half, MiB a minute',
        ],
        ['', ...log.describe()],
      ])}\n`,
    );
  }
  await target.stop();
} finally {
  await postgres.stop();
}
