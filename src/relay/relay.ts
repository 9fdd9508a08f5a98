import { Client } from 'pg';
import { gaplessReader } from '../outbox/reader.ts';
import { Doorbell } from './doorbell.ts';
import { HandOver, type HandOverOptions } from './hand-over.ts';
import { Pace, type PaceOptions } from './pace.ts';
import { PollInterval, type PollIntervalOptions } from './poll-interval.ts';
import { pauseAfter, SessionSocket } from './session.ts';
import { type Stall, StallWatch } from './stall.ts';
import { newStats, type RelayMode, type RelayStats } from './stats.ts';

export interface RelayOptions extends PaceOptions, PollIntervalOptions, Omit<HandOverOptions, 'stats'> {
  /** A direct connection: LISTEN and session locks do not survive a transaction-pooling proxy. */
  readonly connectionString: string;
  /** Longest time without a read, in milliseconds. */
  readonly safetyPollMs: number;
  /** In which a connection must stand, a query be answered and a self-test ring arrive. */
  readonly timeoutMs: number;
  /** A writer that holds the horizon for longer is reported. */
  readonly stallAlertSeconds: number;
}

const LONGEST_PAUSE_MS = 50;
/** A database that is slow, not gone, gets at most so many times the time-out for a query. */
const MOST_PATIENCE = 8;

/** Follows the outbox, once for all subscribers of this process: reads from the hub's cursor up to the horizon, one drain at a time. */
export class Relay {
  readonly #options: RelayOptions;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #doorbell: Doorbell | undefined;
  readonly #handOver: HandOver;
  #caughtUp = false;
  #endPause: (() => void) | undefined;
  readonly #stallWatch: StallWatch;
  /** Twice as many after each session that came and went without having caught up, or a query that takes longer than the time-out would never end. */
  #patience = 1;
  readonly stats: RelayStats = newStats();

  constructor(options: RelayOptions) {
    this.#options = options;
    this.#handOver = new HandOver({ ...options, stats: this.stats });
    this.#stallWatch = new StallWatch(options.stallAlertSeconds);
  }

  /** Connected, and everything up to the last horizon has been handed on. */
  get caughtUp(): boolean {
    return this.#caughtUp;
  }

  get mode(): RelayMode {
    if (!this.#caughtUp || this.#doorbell === undefined) return 'away';
    if (this.#doorbell.asleep) return 'asleep';
    return this.#doorbell.hears ? 'polling' : 'deaf';
  }

  /** Undefined unless a writer has held back every reader for too long. */
  get stall(): Stall | undefined {
    return this.#stallWatch.stall;
  }

  /** Begins to follow; reconnects by itself until {@link stop}. */
  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#endPause?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { log } = this.#options;
    let failures = 0;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#session(() => {
          if (failures > 0) log.info({ failures }, 'relay: has its database again, and has caught up');
          failures = 0;
        });
      } catch (error) {
        failures += 1;
        this.stats.reconnects += 1;
        log.warn({ err: error, failures }, 'relay: lost the database, connecting again');
        await pauseAfter(failures, this.#stop.signal);
      } finally {
        this.#caughtUp = false;
      }
    }
  }

  /** One pair of sessions, from connecting until one of them is lost or the relay stops. */
  async #session(onCaughtUp: () => void): Promise<void> {
    const { connectionString, timeoutMs, log } = this.#options;
    const socket = new SessionSocket({
      connectionString,
      applicationName: 'settlewire relay',
      connectTimeoutMs: timeoutMs,
      queryTimeoutMs: timeoutMs * this.#patience,
    });
    const client = new Client(socket.config);
    const doorbell = new Doorbell(client, { connectionString, timeoutMs, log, stats: this.stats });
    this.#doorbell = doorbell;
    try {
      await client.connect();
      doorbell.open();
      this.#patience = Math.min(this.#patience * 2, MOST_PATIENCE);
      await this.#handOver.open(client);
      await this.#follow(client, doorbell, onCaughtUp);
    } finally {
      this.#doorbell = undefined;
      await Promise.all([doorbell.close(), socket.end(client.end())]);
    }
  }

  /** Reads and waits until a session is lost or the relay stops. See doorbell.ts for the order of the steps. */
  async #follow(client: Client, doorbell: Doorbell, onCaughtUp: () => void): Promise<void> {
    const { batchEvents, safetyPollMs } = this.#options;
    const handOver = this.#handOver;
    const pace = new Pace(this.#options, performance.now());
    let { rings } = this.stats;
    let horizon = Number.POSITIVE_INFINITY;
    let pauseMs = 0;
    const readGapless = gaplessReader(client);
    const interval = new PollInterval(this.#options);
    while (!this.#stop.signal.aborted) {
      // A read that has begun before falling asleep cannot be the one that is to follow it: whatever it finds, another one comes.
      const ahead = handOver.isAhead;
      const readAtMs = performance.now();
      let gapless = 0;
      if (!ahead) {
        if (pace.awake) await doorbell.wakeUp();
        else await doorbell.fallAsleep();
        const rung = doorbell.answer();
        // Whoever hears rings is not behind a pooler that would give the session, its settings and its statements, to others.
        const flows = this.#caughtUp && doorbell.hears && pace.flows(readAtMs);
        if (flows || (rung && doorbell.asleep)) gapless = await handOver.gapless(readGapless);
        if (flows) {
          pace.note(performance.now(), { rings: this.stats.rings - rings, events: gapless });
          rings = this.stats.rings;
          if (gapless < handOver.mostGapless) await this.#pauseSince(readAtMs, interval);
          continue;
        }
      }
      const batch = await handOver.batch(client, doorbell.hears);
      pace.note(performance.now(), {
        rings: this.stats.rings - rings,
        events: gapless + batch.events.length,
        contended: batch.inFlight && batch.horizon > horizon,
      });
      [horizon, rings] = [batch.horizon, this.stats.rings];
      if (ahead || batch.events.length === batchEvents) continue;
      this.#caughtUp = true;
      this.#patience = 1;
      onCaughtUp();
      const stall = await this.#stallWatch.note(client, batch, performance.now());
      if (stall !== undefined)
        this.#options.log.warn(
          { ...stall },
          'relay: a writer holds back every reader: outbox_inflight shows it, pg_terminate_backend(pid) ends it',
        );
      if (doorbell.asleep && !batch.inFlight) {
        pauseMs = 0;
        await doorbell.wait(safetyPollMs, this.#stop.signal);
      } else if (doorbell.asleep) {
        // Its lock goes a moment after its rows are visible, or when a person comes back to a forgotten transaction.
        pauseMs =
          gapless + batch.events.length > 0 ? 0 : Math.min(Math.max(1, pauseMs * 2), LONGEST_PAUSE_MS);
        await this.#pause(pauseMs);
      } else {
        await this.#pauseSince(readAtMs, interval);
      }
    }
  }

  /** From poll to poll: the time that this one took does not come on top. */
  #pauseSince(readAtMs: number, interval: PollInterval): Promise<void> {
    const tookMs = performance.now() - readAtMs;
    interval.note(this.#handOver.answeredAtMs - readAtMs);
    this.stats.pollIntervalMs = interval.currentMs;
    return this.#pause(interval.pauseAfter(tookMs));
  }

  /** Until `ms` have passed or the relay stops. With no listener of its own: one for each poll costs more than the timer. */
  #pause(ms: number): Promise<void> {
    if (this.#stop.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
