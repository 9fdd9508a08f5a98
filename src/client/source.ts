import { type Door, Refusal } from './door.ts';
import type { Reason, Reset, Session, Status } from './events.ts';
import { type Block, BlockParser } from './parser.ts';
import { FIRST_RETRY_MS, pauseMs, wait } from './pause.ts';

/** A block of the stream, and the place in the order that it moves the stream from. */
export interface Message {
  readonly from: number;
  readonly type: string;
  readonly id: number | undefined;
  readonly data: unknown;
}

export interface Listener {
  onMessage(message: Message): void;
  onStatus(status: Status): void;
}

export interface SourceOptions {
  readonly topics?: readonly string[] | undefined;
  readonly random?: (() => number) | undefined;
  readonly longestPauseMs?: number | undefined;
}

/** Where messages come from: a stream of one's own, or one that tabs share. */
export interface Line {
  /** Begins, or goes on, right after this cursor; undefined: at the head. */
  seek(cursor: number | undefined): void;
  stop(): void;
}

/** Heartbeats that may fail to come, and the rest of one. */
const SILENT_HEARTBEATS = 2.5;
const FIRST_HEARTBEAT_SECONDS = 15;
/** Coming back at once makes no sense: the answer would be the same. */
const FINAL: ReadonlySet<unknown> = new Set<Reason>(['access_revoked']);
/** The server has ended the credential; the next attempt needs another. */
const CREDENTIAL_ENDED: ReadonlySet<unknown> = new Set<Reason>(['token_expired', 'session_revoked']);

/**
 * One stream that is kept open: connects, reads, notices when nothing comes any more, and comes back from where it was.
 * The position moves only with complete blocks.
 */
export class Source implements Line {
  readonly #door: Door;
  readonly #topics: readonly string[];
  readonly #listener: Listener;
  readonly #random: () => number;
  readonly #longestPauseMs: number | undefined;
  #position: number | undefined;
  #started = false;
  #stopped = false;
  /** Somebody needs what came before: the connection was ended to begin anew, at once. */
  #sought = false;
  #state: Status['state'] | undefined;
  /** Of the connection, or of the pause before the next. */
  #connection = new AbortController();
  #failures = 0;
  #retryMs: number;
  #heartbeatSeconds = FIRST_HEARTBEAT_SECONDS;

  constructor(
    door: Door,
    { topics = [], random = Math.random, longestPauseMs }: SourceOptions,
    listener: Listener,
  ) {
    this.#door = door;
    this.#topics = topics;
    this.#listener = listener;
    this.#random = random;
    this.#longestPauseMs = longestPauseMs;
    this.#retryMs = FIRST_RETRY_MS * (0.5 + random());
  }

  /** The cursor of the stream; undefined until it is known where it starts. */
  get position(): number | undefined {
    return this.#position;
  }

  seek(cursor: number | undefined): void {
    if (this.#stopped) return;
    if (!this.#started) {
      this.#started = true;
      this.#position = cursor;
      void this.#run();
    } else if (cursor !== undefined && (this.#position ?? Number.POSITIVE_INFINITY) > cursor) {
      this.#position = cursor;
      this.#sought = true;
      this.#connection.abort();
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#connection.abort();
  }

  async #run(): Promise<void> {
    let reason: Reason | undefined;
    while (!this.#stopped) {
      this.#sought = false;
      this.#connection = new AbortController();
      this.#tell({ state: 'connecting', ...(reason && { reason }) });
      const end = await this.#connect(this.#connection);
      if (this.#stopped) return;
      if (this.#sought) continue;
      reason = end.reason;
      if (end.final || FINAL.has(reason)) {
        this.#stopped = true;
        this.#tell({ state: 'closed', reason });
        return;
      }
      if (CREDENTIAL_ENDED.has(reason)) this.#door.rejected = true;
      const retryInMs = pauseMs(
        this.#failures,
        this.#retryMs,
        end.retryAfterMs,
        this.#random(),
        this.#longestPauseMs,
      );
      this.#tell({ state: 'waiting', reason, retryInMs: Math.round(retryInMs) });
      this.#connection = new AbortController();
      await wait(retryInMs, this.#connection.signal);
    }
  }

  /** One connection, from its request to its end. @returns why it ended */
  async #connect(connection: AbortController): Promise<Refusal> {
    const { signal } = connection;
    let silent = false;
    const watchdog = new Watchdog(() => {
      silent = true;
      connection.abort();
    });
    this.#failures += 1;
    let farewell = new Refusal('ended', false);
    const parser = new BlockParser((block) => {
      if (signal.aborted) return;
      if (block.type === 'disconnect') {
        const { reason, retryAfterMs } = JSON.parse(block.data);
        farewell = new Refusal(reason, false, retryAfterMs);
      } else this.#take(block);
    });
    try {
      watchdog.expect(this.#silenceMs);
      const { body } = await this.#request(signal);
      const reader = body.getReader();
      const decoder = new TextDecoder();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return farewell;
        parser.push(decoder.decode(value, { stream: true }));
        watchdog.expect(this.#silenceMs);
        this.#retryMs = parser.retryMs ?? this.#retryMs;
      }
    } catch (error) {
      if (silent) return new Refusal('silent', false);
      if (error instanceof Refusal) return error;
      return farewell.reason === 'ended' ? new Refusal('network', false) : farewell;
    } finally {
      watchdog.stop();
      connection.abort();
    }
  }

  async #request(signal: AbortSignal): Promise<{ body: ReadableStream<Uint8Array> }> {
    const answer = await this.#door.ask(
      {
        path: '/v1/events',
        query: this.#topics.map((topic) => ['topic', topic] as const),
        headers: {
          Accept: 'text/event-stream',
          ...(this.#position === undefined ? {} : { 'Last-Event-ID': String(this.#position) }),
        },
        signal,
      },
      true,
    );
    if (!answer.body || !answer.headers.get('Content-Type')?.startsWith('text/event-stream'))
      throw new Refusal('not_a_stream', false);
    return { body: answer.body };
  }

  #take({ type, data: text, id: idText }: Block): void {
    const data = JSON.parse(text);
    const id = idText !== undefined && /^\d{1,15}$/.test(idText) ? Number(idText) : undefined;
    if (type === 'session') this.#meet(data);
    const from = this.#position ?? 0;
    if (type === 'reset') this.#position = (data as Reset).cursor;
    else if (id !== undefined) this.#position = id;
    if (type === 'session' && this.#state === 'connecting') this.#tell({ state: 'replaying' });
    this.#listener.onMessage({ from, type, id, data });
    if (type === 'caught-up') {
      this.#failures = 0;
      this.#tell({ state: 'live' });
    }
  }

  /** A session comes first, and may come again with a newer token. */
  #meet({ cursor, heartbeatSeconds, resumeToken }: Session): void {
    this.#position ??= cursor;
    this.#heartbeatSeconds = heartbeatSeconds;
    this.#door.resumeToken = resumeToken;
  }

  get #silenceMs(): number {
    return this.#heartbeatSeconds * SILENT_HEARTBEATS * 1000;
  }

  #tell(status: Status): void {
    this.#state = status.state;
    this.#listener.onStatus(status);
  }
}

/** Calls out when it has been expecting something for too long. */
class Watchdog {
  readonly #bark: () => void;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(bark: () => void) {
    this.#bark = bark;
  }

  expect(withinMs: number): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#bark, withinMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
