import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import type { Hub } from '../hub/hub.ts';
import type { Batch, BatchEvents } from '../outbox/reader.ts';
import { gaplessReader, readBatch, readHead, readMark, replaceEpoch } from '../outbox/reader.ts';
import { Doorbell } from './doorbell.ts';
import { Pace, type PaceOptions } from './pace.ts';
import { pauseAfter, SessionSocket } from './session.ts';
import { isSetBack } from './set-back.ts';
import { type Stall, StallWatch } from './stall.ts';
import { newStats, type RelayLog, type RelayMode, type RelayStats } from './stats.ts';

export interface RelayOptions extends PaceOptions {
  /** A direct connection: LISTEN and session locks do not survive a transaction-pooling proxy. */
  readonly connectionString: string;
  readonly hub: Hub;
  readonly log: RelayLog;
  /** Most events in one read. */
  readonly batchEvents: number;
  /** Time between reads while awake, in milliseconds. */
  readonly pollIntervalMs: number;
  /** Longest time without a read, in milliseconds. */
  readonly safetyPollMs: number;
  /** In which a connection must stand, a query be answered and a self-test ring arrive. */
  readonly timeoutMs: number;
  /** Called for each batch that was handed on, with its size and the seconds since the append of its first event. */
  readonly onDispatch: (events: number, lagSeconds: number) => void;
  /** A writer that holds the horizon for longer is reported. */
  readonly stallAlertSeconds: number;
}

const LONGEST_PAUSE_MS = 50;
/** Whoever is rung has few events to read. */
const MOST_GAPLESS = 100;
/** A database that is slow, not gone, gets at most so many times the time-out for a query. */
const MOST_PATIENCE = 8;

/** Follows the outbox, once for all subscribers of this process: reads from the hub's cursor up to the horizon, one drain at a time. */
export class Relay {
  readonly #options: RelayOptions;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #doorbell: Doorbell | undefined;
  #begun = false;
  /** After a full batch there is more: it is read while that one is handed on. */
  #ahead: { readonly batch: Promise<Batch>; readonly askedMs: number } | undefined;
  /** Of the event at the hub's cursor; undefined if the cursor is the start of an epoch. */
  #mark: string | undefined;
  #caughtUp = false;
  readonly #stallWatch: StallWatch;
  /** Twice as many after each session that came and went without having caught up, or a query that takes longer than the time-out would never end. */
  #patience = 1;
  readonly stats: RelayStats = newStats();

  constructor(options: RelayOptions) {
    this.#options = options;
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
    this.#ahead = undefined;
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
      await this.#begin(client);
      await this.#follow(client, doorbell, onCaughtUp);
    } finally {
      this.#doorbell = undefined;
      await Promise.all([doorbell.close(), socket.end(client.end())]);
    }
  }

  /** Goes on from the hub's cursor if that is still possible, else begins anew at the head. */
  async #begin(client: Client): Promise<void> {
    const { hub, log } = this.#options;
    let { cursor, history } = await readHead(client);
    if (this.#begun) {
      if (await isSetBack(client, hub, this.#mark, history)) {
        log.warn(
          { cursor: hub.cursor },
          'relay: the database was set back behind events that were delivered',
        );
        await replaceEpoch(client, history.epoch);
        ({ cursor, history } = await readHead(client));
      } else if (history.epoch === hub.history.epoch && hub.cursor >= history.oldest) return;
      log.warn(
        { cursor: hub.cursor, history },
        'relay: another epoch, or it was away for longer than events are kept: beginning anew, clients get a reset',
      );
    }
    this.#mark = await readMark(client, cursor);
    hub.begin(cursor, history);
    this.#begun = true;
  }

  /** Reads and waits until a session is lost or the relay stops. See doorbell.ts for the order of the steps. */
  async #follow(client: Client, doorbell: Doorbell, onCaughtUp: () => void): Promise<void> {
    const { batchEvents, pollIntervalMs, safetyPollMs } = this.#options;
    const pace = new Pace(this.#options, performance.now());
    let { rings } = this.stats;
    let horizon = Number.POSITIVE_INFINITY;
    let pauseMs = 0;
    const readGapless = gaplessReader(client);
    while (!this.#stop.signal.aborted) {
      // A read that has begun before falling asleep cannot be the one that is to follow it: whatever it finds, another one comes.
      const ahead = this.#ahead !== undefined;
      let gapless = 0;
      if (!ahead) {
        if (pace.awake) await doorbell.wakeUp();
        else await doorbell.fallAsleep();
        const rung = doorbell.answer();
        // Whoever hears rings is not behind a pooler that would give the session, and its settings, to others.
        if (rung && doorbell.asleep) gapless = await this.#readGapless(readGapless);
      }
      const readAtMs = performance.now();
      const batch = await this.#read(client);
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
        // From read to read: the time that this one took does not come on top.
        await this.#pause(Math.max(1, readAtMs + pollIntervalMs - performance.now()));
      }
    }
  }

  async #read(client: Client): Promise<Batch> {
    const { hub, batchEvents } = this.#options;
    const batch = await (this.#ahead?.batch ?? readBatch(client, hub.cursor, batchEvents));
    // What was read ahead has waited here until its predecessor was handed on.
    const answeredMs = this.#ahead?.askedMs ?? performance.now();
    this.#ahead = undefined;
    this.stats.reads += 1;
    const other = batch.history.epoch !== hub.history.epoch || batch.history.oldest > hub.cursor;
    // With nobody in flight the horizon is the last id given out: it goes back only if somebody has set it back.
    if (other || (!batch.inFlight && batch.horizon < hub.cursor)) {
      await this.#begin(client);
      return { ...batch, events: [], inFlight: true };
    }
    hub.setHistory(batch.history);
    const last = batch.events.at(-1);
    if (last !== undefined && batch.events.length === batchEvents) {
      this.#ahead = { batch: readBatch(client, last.id, batchEvents), askedMs: performance.now() };
      this.#ahead.batch.catch(() => {});
    }
    this.#handOn(batch, answeredMs);
    return batch;
  }

  /** Hands on what needs no horizon, before the read that looks for writers; returns how many. */
  async #readGapless(read: ReturnType<typeof gaplessReader>): Promise<number> {
    const { hub, batchEvents } = this.#options;
    const batch = await read(hub.cursor, Math.min(batchEvents, MOST_GAPLESS));
    this.stats.reads += 1;
    this.#handOn(batch, performance.now());
    return batch.events.length;
  }

  #handOn({ events, mark, lagSeconds }: BatchEvents, answeredMs: number): void {
    if (lagSeconds === undefined) return;
    this.stats.events += events.length;
    this.stats.lagSeconds = lagSeconds.last;
    this.#mark = mark;
    this.#options.hub.dispatch(events);
    this.#options.onDispatch(events.length, lagSeconds.first + (performance.now() - answeredMs) / 1000);
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#stop.signal }).catch(() => {});
  }
}
