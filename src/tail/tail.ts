import { setTimeout as delay } from 'node:timers/promises';
import { type Block, connection, type Item, Refused } from './connection.ts';

export interface TailOptions {
  /** Of the stream, topics included. */
  readonly url: string;
  readonly token: string;
  /** Goes on after this id; undefined: from now on. */
  readonly cursor: string | undefined;
  /** Ends where the replay ends. */
  readonly untilCaughtUp: boolean;
  /** Ends after so many events. */
  readonly count: number;
  /** Gives up after so long without a connection. */
  readonly patienceMs: number;
  /** Gets everything in order, and is waited for; `cursor` is where to go on once it has returned. */
  readonly take: (items: readonly Item[], cursor: string | undefined) => Promise<void>;
  /** What happens to the connection, in words. */
  readonly note: (text: string) => void;
  /** A number from 0 up to 1. */
  readonly random: () => number;
  readonly pause?: (ms: number) => Promise<void>;
}

/** How it ended. */
export interface Outcome {
  readonly events: number;
  /** Times that the service could not go on from where we were: something was missed. */
  readonly resets: number;
}

export class TailError extends Error {
  override readonly name = 'TailError';
}

const FIRST_RETRY_MS = 2000;
const LONGEST_PAUSE_MS = 30_000;
const FIRST_SILENCE_MS = 40_000;
/** Heartbeats that may fail to come, and the rest of one. */
const SILENT_HEARTBEATS = 2.5;

/**
 * Follows a stream over any number of connections: each event once and in order, as long as the service can tell; where it cannot,
 * that is counted and noted.
 * @throws TailError if it is refused for good, or was without a connection for too long
 */
export async function tail(options: TailOptions): Promise<Outcome> {
  const { pause = delay, patienceMs, random, note } = options;
  const progress = new Progress(options);
  let lostAt = performance.now();
  let failures = 0;
  for (;;) {
    let why = 'the connection ended';
    let retryAfterMs = 0;
    try {
      for await (const items of connection({
        ...options,
        cursor: progress.cursor,
        silenceMs: () => progress.silenceMs,
      })) {
        if (await progress.take(items)) return progress;
        if (progress.connected) failures = 0;
      }
      why = progress.sentAway ?? why;
    } catch (error) {
      if (error instanceof Refused && error.final) throw new TailError(`refused: ${error.message}`);
      if (error instanceof TakeError) throw error.cause;
      why = reason(error as NodeJS.ErrnoException);
      retryAfterMs = error instanceof Refused ? error.retryAfterMs : 0;
    }
    if (progress.hangUp()) lostAt = performance.now();
    const leftMs = patienceMs - (performance.now() - lostAt);
    if (leftMs <= 0) throw new TailError(`${why}; gave up`);
    const backOffMs =
      Math.min(progress.retryMs * 2 ** failures, LONGEST_PAUSE_MS) * (failures > 0 ? 0.5 + random() / 2 : 1);
    const waitMs = Math.min(Math.max(retryAfterMs, backOffMs), leftMs);
    failures += 1;
    note(`${why}; coming back in ${(waitMs / 1000).toFixed(1)} s`);
    await pause(waitMs);
  }
}

function reason({ code, message }: NodeJS.ErrnoException): string {
  return code === undefined || message.includes(code) ? message : `${code}: ${message}`;
}

/** What `take` threw: not the connection's fault. */
class TakeError extends Error {}

/** Where we are, over all connections. */
class Progress implements Outcome {
  readonly #options: TailOptions;
  /** The last event handed on; events up to it are not handed on again. */
  #last: number;
  cursor: string | undefined;
  connected = false;
  sentAway: string | undefined;
  retryMs: number;
  silenceMs = FIRST_SILENCE_MS;
  events = 0;
  resets = 0;

  constructor(options: TailOptions) {
    this.#options = options;
    this.cursor = options.cursor;
    this.#last = Number(options.cursor ?? -1);
    this.retryMs = FIRST_RETRY_MS * (0.5 + options.random());
  }

  /** @returns whether that is all that was asked for */
  async take(items: readonly Item[]): Promise<boolean> {
    const handOn: Item[] = [];
    let done = false;
    for (const item of items) {
      if (item === 'heartbeat') handOn.push(item);
      else if (this.#note(item)) handOn.push(item);
      done = this.#isDone(item);
      if (done) break;
    }
    try {
      await this.#options.take(handOn, this.cursor);
    } catch (cause) {
      throw new TakeError('', { cause });
    }
    return done;
  }

  /** @returns whether there was a connection */
  hangUp(): boolean {
    const { connected } = this;
    this.connected = false;
    this.sentAway = undefined;
    return connected;
  }

  #isDone(item: Item): boolean {
    const { count, untilCaughtUp } = this.#options;
    return this.events >= count || (untilCaughtUp && item !== 'heartbeat' && item.type === 'caught-up');
  }

  /** @returns whether to hand it on */
  #note({ type, data, id, retryMs }: Block): boolean {
    this.retryMs = retryMs ?? this.retryMs;
    if (type === 'session') this.#meet(JSON.parse(data));
    else if (type === 'reset') this.#reset(JSON.parse(data));
    else if (type === 'disconnect') this.sentAway = `sent away: ${JSON.parse(data).reason}`;
    if (id === undefined) return true;
    this.cursor = id;
    if (!type.includes(':')) return true;
    if (Number(id) <= this.#last) return false;
    this.#last = Number(id);
    this.events += 1;
    return true;
  }

  #meet({
    cursor,
    heartbeatSeconds,
    topics,
  }: {
    cursor: number;
    heartbeatSeconds: number;
    topics: string[];
  }): void {
    // It may come again in the middle of a stream.
    if (!this.connected)
      this.#options.note(
        `connected at ${cursor}: ${topics[0] === '*' ? 'every topic' : `${topics.length} topics`}`,
      );
    this.connected = true;
    this.cursor ??= String(cursor);
    this.silenceMs = heartbeatSeconds * SILENT_HEARTBEATS * 1000;
  }

  #reset({ reason: why, requested, oldest, cursor }: Record<string, unknown>): void {
    this.resets += 1;
    this.cursor = String(cursor);
    this.#last = Number(cursor);
    this.#options.note(
      `reset (${why}): events after ${requested} cannot all be had, the oldest cursor is ${oldest}; going on from ${cursor}`,
    );
  }
}
