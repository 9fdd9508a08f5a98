/*
 * How many deliveries a second one process makes, through the real path (rows committed, relay, hub, sockets), beside other ways to
 * write events to many sockets: a bare loop, Express' res.write, better-sse, and nginx with nchan. By turns in short rounds; the load
 * client is written in C. See docs/benchmarks.md.
 *
 * BENCH_ROUNDS (5), BENCH_SUBSCRIBERS (1000), BENCH_MANY (10000; 0 leaves it out), BENCH_EVENTS (200).
 */
import { startNchan, startPeer, startSettlewire, type Target } from './support/fanout-target.ts';
import { BenchPostgres } from './support/postgres.ts';
import { processorSeconds } from './support/processor.ts';
import { judge, machine, median, table } from './support/statistics.ts';

const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 5);
const SUBSCRIBERS = Number(process.env['BENCH_SUBSCRIBERS'] ?? 1000);
const MANY = Number(process.env['BENCH_MANY'] ?? 10_000);
const EVENTS = Number(process.env['BENCH_EVENTS'] ?? 200);
const BURST = 10;
/** Makes a frame of about 280 bytes. */
const PADDING = 203;

interface Rate {
  /** Deliveries a second of the clock. */
  readonly perSecond: number;
  /** Deliveries a second of the server's processor time: what else goes on on the machine matters less. */
  readonly perProcessorSecond: number;
  readonly bytesPerEvent: number;
}

async function measure(target: Target, events: number, perWrite: number): Promise<Rate> {
  const { load, pid, audience } = target;
  process.stderr.write(`${target.name} `);
  const before = processorSeconds(pid);
  load.expect(events * audience);
  const came = load.came();
  await target.publish({ events, perWrite, padding: PADDING });
  const { events: deliveries, bytes, seconds, closed } = await came;
  if (closed > 0 || deliveries !== events * audience)
    throw new Error(`${target.name}: ${deliveries} of ${events * audience} came, ${closed} closed`);
  return {
    perSecond: deliveries / seconds,
    perProcessorSecond: deliveries / (processorSeconds(pid) - before),
    bytesPerEvent: bytes / deliveries,
  };
}

/** One thing measured in every round. */
interface Entry {
  readonly name: string;
  readonly target: Target;
  readonly events: number;
  readonly perWrite: number;
  readonly rates: Rate[];
}

async function rounds(entries: readonly Entry[]): Promise<void> {
  // Once without looking: code is compiled, memory is taken.
  for (const { target, events, perWrite } of entries) await measure(target, events, perWrite);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const index of entries.keys()) {
      const entry = entries[(index + round) % entries.length] as Entry;
      entry.rates.push(await measure(entry.target, entry.events, entry.perWrite));
    }
  }
}

/** Within each round, then the median. */
function ratio(a: Entry, b: Entry | undefined, of: keyof Rate): number {
  return median(a.rates.map((rate, round) => rate[of] / (b?.rates[round]?.[of] ?? Number.NaN)));
}

function report(entries: readonly Entry[], targets: readonly [string, string, number][]): void {
  const find = (name: string): Entry | undefined => entries.find((entry) => entry.name === name);
  const rate = (entry: Entry, of: keyof Rate): string =>
    median(entry.rates.map((each) => each[of])).toFixed(0);
  process.stdout.write(
    `\n${table([
      ['', 'deliveries a second', 'a second of its processor time', 'bytes an event'],
      ...entries.map((entry) => [
        entry.name,
        rate(entry, 'perSecond'),
        rate(entry, 'perProcessorSecond'),
        rate(entry, 'bytesPerEvent'),
      ]),
    ])}\n\n${table([
      ['', 'by the clock', 'by processor time'],
      ...targets.flatMap(([a, b, target]) => {
        const [one, other] = [find(a), find(b)];
        if (one === undefined || other === undefined) return [];
        return [
          [
            `${a} / ${b}`,
            judge(ratio(one, other, 'perSecond'), 'at least', target),
            ratio(one, other, 'perProcessorSecond').toFixed(2),
          ],
        ];
      }),
    ])}\n`,
  );
}

const postgres = await BenchPostgres.create();
const targets: Target[] = [];
try {
  await postgres.start({ flushMs: 0 });
  const start = async (starting: Promise<Target | undefined>): Promise<Target | undefined> => {
    const target = await starting;
    if (target !== undefined) targets.push(target);
    return target;
  };
  const settlewire = (name: string, batchEvents: number, connections = SUBSCRIBERS, topics = 1) =>
    start(
      startSettlewire(name, {
        postgres,
        database: `bench_${targets.length}`,
        connections,
        topics,
        batchEvents,
      }),
    );
  const entry = (name: string, target: Target | undefined, events: number, perWrite = 1): Entry[] =>
    target === undefined ? [] : [{ name, target, events, perWrite, rates: [] }];

  const bare = await start(startPeer('bare', SUBSCRIBERS));
  const one = [
    ...entry('bare loop', bare, EVENTS),
    ...entry('Express res.write', await start(startPeer('express', SUBSCRIBERS)), EVENTS),
    ...entry('better-sse', await start(startPeer('better-sse', SUBSCRIBERS)), EVENTS),
    ...entry('nginx + nchan', await start(startNchan(SUBSCRIBERS)), EVENTS),
    ...entry('settlewire', await settlewire('settlewire', 1), EVENTS),
    ...entry(`bare loop, ${BURST} in a write`, bare, EVENTS * BURST, BURST),
    ...entry(`settlewire, ${BURST} in a batch`, await settlewire('bursts', BURST), EVENTS * BURST),
    ...entry('settlewire, batches as they come', await settlewire('free', 1000), EVENTS * BURST),
    ...entry('settlewire, 100 topics', await settlewire('topics', 1000, SUBSCRIBERS, 100), EVENTS * 200),
  ];
  await rounds(one);
  process.stdout.write(`${machine()}; ${postgres.version}; ${SUBSCRIBERS} subscribers, ${ROUNDS} rounds\n`);
  report(one, [
    ['settlewire', 'nginx + nchan', 1.15],
    ['settlewire', 'better-sse', 4],
    ['settlewire', 'Express res.write', 1],
    ['settlewire', 'bare loop', 0.9],
    [`settlewire, ${BURST} in a batch`, 'nginx + nchan', 10],
    [`settlewire, ${BURST} in a batch`, `bare loop, ${BURST} in a write`, 0.9],
  ]);
  for (const target of targets.splice(0)) await target.stop();

  if (MANY > 0) {
    const many = [
      ...entry('bare loop', await start(startPeer('bare', MANY)), EVENTS / 10),
      ...entry('settlewire', await settlewire('many', 1, MANY), EVENTS / 10),
    ];
    await rounds(many);
    process.stdout.write(`\n${MANY} subscribers\n`);
    report(many, [['settlewire', 'bare loop', 0.9]]);
  }
} finally {
  await Promise.allSettled(targets.map((target) => target.stop()));
  await postgres.stop();
}
