import type { Following } from './following.ts';
import { Ledger, type Tally, total } from './ledger.ts';
import type { Written } from './writers.ts';

export interface InstanceReport extends Tally {
  readonly url: string;
  readonly subscribers: number;
  readonly resumes: number;
  /** Times that the instance said `reset`: then a gap is announced, but it is still one. */
  readonly resets: number;
  /** From COMMIT's return to receipt, of events that came live; null if none did. */
  readonly latencyMs: { readonly p50: number | null; readonly p99: number | null };
}

export interface Report {
  readonly run: string;
  /** Events of this run in the outbox. */
  readonly written: number;
  /** Events whose commit was confirmed and which the outbox does not have. */
  readonly lost: number;
  readonly transactions: number;
  readonly rolledBack: number;
  /** Transactions that broke off; the outbox says whether they were committed. */
  readonly unsure: number;
  readonly instances: readonly InstanceReport[];
  /** Nothing missed, duplicated, out of order, unexpected or lost. */
  readonly exact: boolean;
}

/** An event of a run as the outbox has it. */
export interface Row {
  readonly id: number;
  readonly topic: string;
  readonly number: number;
}

/** Compares what each subscriber got with the outbox's rows of the run, in order. */
export function makeReport(
  run: string,
  written: Written,
  rows: readonly Row[],
  instances: readonly { readonly url: string; readonly followings: readonly Following[] }[],
): Report {
  const numbers = new Set(rows.map(({ number }) => number));
  let lost = 0;
  for (const number of written.committed.keys()) if (!numbers.has(number)) lost += 1;
  const reports = instances.map(({ url, followings }) => instanceReport(url, followings, rows, written));
  const { missed, duplicated, outOfOrder, unexpected } = total(reports);
  return {
    run,
    written: rows.length,
    lost,
    transactions: written.transactions,
    rolledBack: written.rolledBack,
    unsure: written.unsure,
    instances: reports,
    exact: rows.length > 0 && missed + duplicated + outOfOrder + unexpected + lost === 0,
  };
}

function instanceReport(
  url: string,
  followings: readonly Following[],
  rows: readonly Row[],
  { committed }: Written,
): InstanceReport {
  const latencies: number[] = [];
  for (const { events } of followings) {
    for (const { number, at, liveSince } of events) {
      const committedAt = committed.get(number);
      // One that came while its subscriber was away says nothing about the service.
      if (committedAt === undefined || liveSince === undefined || liveSince > committedAt) continue;
      latencies.push(Math.max(0, at - committedAt));
    }
  }
  latencies.sort((a, b) => a - b);
  return {
    url,
    subscribers: followings.length,
    resumes: sum(followings, ({ follower }) => follower.resumes),
    resets: sum(followings, ({ follower }) => follower.resets),
    ...total(followings.map((each) => compare(each, rows))),
    latencyMs: { p50: percentile(latencies, 50), p99: percentile(latencies, 99) },
  };
}

function compare({ follower, topic, events }: Following, rows: readonly Row[]): Tally {
  const own = rows.filter((row) => row.topic === topic && row.id > (follower.start ?? 0));
  const numbers = new Map(own.map(({ id, number }) => [id, number]));
  const ledger = new Ledger();
  ledger.expect(own.map(({ id }) => id));
  let others = 0;
  for (const { id, number } of events) {
    // Another event under an id of the outbox: the one that belongs there is missed.
    if (numbers.has(id) && numbers.get(id) !== number) others += 1;
    else ledger.receive(id);
  }
  const tally = ledger.finish();
  return { ...tally, unexpected: tally.unexpected + others };
}

function sum<T>(items: readonly T[], value: (item: T) => number): number {
  return items.reduce((so, item) => so + value(item), 0);
}

/** The nearest-rank percentile of sorted values, in tenths of a millisecond. */
function percentile(sorted: readonly number[], percent: number): number | null {
  const value = sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)];
  return value === undefined ? null : Math.round(value * 10) / 10;
}
