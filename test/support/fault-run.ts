import type { Pool } from 'pg';
import { pause } from './attached.ts';
import { Audience } from './audience.ts';
import { FaultWriters, type FaultWritersOptions } from './fault-writers.ts';
import type { StormWorld } from './storm.ts';
import { waitFor } from './wait-for.ts';

/** How long each fault is repeated; 0: once. */
const SECONDS = Number(process.env.FAULT_SECONDS ?? 0);

/** Settings of a service under faults: small windows and batches, so that seams are many; no limit in the way of clients that all come back at once. */
export const FAULT_SETTINGS = {
  REPLAY_WINDOW_EVENTS: '100',
  REPLAY_PAGE_EVENTS: '40',
  RELAY_BATCH_EVENTS: '40',
  SAFETY_POLL_MS: '1000',
  MAX_CONNECTIONS_PER_ACTOR: '1000',
  CONNECT_RATE_PER_MINUTE: '1000000',
};

export interface FaultRunOptions extends FaultWritersOptions {
  /** What the database's own sessions of the test use. */
  readonly pool: Pool;
  /** Where the writers connect. */
  readonly databaseUrl: string;
  readonly world: StormWorld;
  /** The service for a member's next connection. */
  readonly where: (member: number) => string;
}

/** What a fault may ask of the run that it happens in. */
export interface Running {
  readonly audience: Audience;
  readonly writers: FaultWriters;
  /** Waits until so many more events have come to everybody's administrator. */
  flowing(more?: number, timeoutMs?: number): Promise<void>;
}

/** What a fault cost, as its users saw it. */
export interface Figures {
  readonly events: number;
  readonly rounds: number;
  /** Longest time without any event, in milliseconds. */
  readonly silenceMs: number;
  readonly resumes: number;
}

/** A timeout for mocha: what a test needs by itself, and the time over which faults are repeated. */
export function faultTimeoutMs(ms: number): number {
  return ms + SECONDS * 1000;
}

/**
 * Lets a fault happen while writers write and the audience listens, again and again for FAULT_SECONDS. Afterwards, with the
 * writers stopped, everybody has got exactly the outbox, and the outbox holds everything that was promised.
 * @param fault returns when things are whole again, as far as it is concerned; the run goes on when events flow
 */
export async function underFault(
  name: string,
  { pool, databaseUrl, world, where, ...options }: FaultRunOptions,
  fault: (running: Running) => Promise<void>,
): Promise<Figures> {
  const audience = await Audience.attach(pool, world, where);
  const writers = new FaultWriters(databaseUrl, world, options);
  const silence = new SilenceWatch(() => audience.count);
  const flowing = async (more = 10, timeoutMs = 30_000): Promise<void> => {
    const before = audience.count;
    await waitFor(() => audience.count >= before + more, { what: `${more} more events`, timeoutMs });
  };
  const began = performance.now();
  let rounds = 0;
  try {
    await flowing(30);
    silence.start();
    do {
      rounds += 1;
      await fault({ audience, writers, flowing });
      await flowing(30);
    } while (performance.now() - began < SECONDS * 1000);
    silence.stop();
    await writers.stop();
    const events = await audience.expectExact(pool);
    await writers.expectKept(pool);
    const failures =
      [...writers.failures].map(([reason, count]) => `${reason} ${count}`).join(', ') || 'none';
    const figures: Figures = {
      events,
      rounds,
      silenceMs: Math.round(silence.longestMs),
      resumes: audience.resumes,
    };
    console.log(
      `      ${name}: ${rounds} times, ${events} events, ${audience.members.length} subscribers, ${figures.resumes} resumes, ` +
        `longest silence ${figures.silenceMs} ms, lost 0; failures of writers: ${failures}`,
    );
    return figures;
  } finally {
    silence.stop();
    await writers.stop();
    await audience.detach();
  }
}

/** The longest time in which a count did not move. */
class SilenceWatch {
  readonly #count: () => number;
  #watching = false;
  longestMs = 0;

  constructor(count: () => number) {
    this.#count = count;
  }

  start(): void {
    this.#watching = true;
    void this.#watch();
  }

  stop(): void {
    this.#watching = false;
  }

  async #watch(): Promise<void> {
    let last = this.#count();
    let since = performance.now();
    while (this.#watching) {
      const count = this.#count();
      const now = performance.now();
      this.longestMs = Math.max(this.longestMs, now - since);
      if (count !== last) {
        last = count;
        since = now;
      }
      await pause(10);
    }
  }
}
