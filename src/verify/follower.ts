import * as http from 'node:http';
import * as https from 'node:https';
import { createParser, type EventSourceMessage } from 'eventsource-parser';

export class VerifyError extends Error {
  override readonly name = 'VerifyError';
}

/** An event as a follower got it. */
export interface Received {
  readonly id: number;
  readonly data: string;
  /** When, in milliseconds of `performance.now()`. */
  readonly at: number;
  /** Since when this connection had caught up; undefined while it was still replaying. */
  readonly liveSince: number | undefined;
}

export interface FollowerOptions {
  /** Of an event stream. */
  readonly url: string;
  readonly token: string;
  /** After so many milliseconds a connection is cut, in the middle of whatever it is doing. */
  readonly stayMs: () => number;
  /** And after so many it is made again. */
  readonly awayMs: () => number;
  readonly onEvent: (event: Received) => void;
}

/** A connection without a byte for so long is dead: heartbeats come more often. */
const SILENCE_MS = 60_000;
const RETRY_MS = 250;
/** Refusals that waiting cannot heal. */
const FATAL = new Set([400, 401, 403, 404, 406]);

/**
 * A client that drops and resumes with Last-Event-ID, as an `EventSource` does, at moments that it is told. It also comes back
 * when the server sends it away, refuses it for the moment, or dies.
 */
export class Follower {
  readonly #options: FollowerOptions;
  readonly #request: typeof http.request;
  readonly #first: Promise<void>;
  #onCaughtUp: () => void = () => {};
  #onFailure: (error: unknown) => void = () => {};
  #running: Promise<void> | undefined;
  #cut: (() => void) | undefined;
  #endPause: (() => void) | undefined;
  #steady = false;
  #stopped = false;
  #cursor: string | undefined;
  #start: number | undefined;
  #resumes = 0;
  #resets = 0;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#request = options.url.startsWith('https:') ? https.request : http.request;
    this.#first = new Promise((resolve, reject) => {
      this.#onCaughtUp = resolve;
      this.#onFailure = reject;
    });
    // Whoever does not wait for it learns of the failure from stop().
    this.#first.catch(() => {});
  }

  /** The cursor at which it began: every later event must come. Undefined before it has. */
  get start(): number | undefined {
    return this.#start;
  }

  /** Times that it came back with Last-Event-ID. */
  get resumes(): number {
    return this.#resumes;
  }

  /** Times that the server said that it could not go on from there. */
  get resets(): number {
    return this.#resets;
  }

  /**
   * Connects; resolves at the end of its first replay.
   * @throws VerifyError if the server refuses it for good
   */
  follow(): Promise<void> {
    this.#running ??= this.#run();
    this.#running.catch(this.#onFailure);
    return this.#first;
  }

  /** From now on it stays connected. */
  steady(): void {
    this.#steady = true;
    this.#endPause?.();
  }

  /** @throws VerifyError if the server has refused it for good */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cut?.();
    this.#endPause?.();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#stopped) {
      const awayMs = await this.#connection();
      if (this.#stopped) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, awayMs);
        this.#endPause = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** One connection from its beginning to its end; resolves with the time to stay away. */
  #connection(): Promise<number> {
    const { url, token, stayMs, awayMs } = this.#options;
    return new Promise((resolve, reject) => {
      let away = RETRY_MS;
      const headers = {
        Accept: 'text/event-stream',
        Authorization: `Bearer ${token}`,
        ...(this.#cursor === undefined ? {} : { 'Last-Event-ID': this.#cursor }),
      };
      const outgoing = this.#request(url, { headers, agent: false });
      const leave = setTimeout(() => {
        if (this.#steady) return;
        away = awayMs();
        outgoing.destroy();
      }, stayMs());
      this.#cut = () => outgoing.destroy();
      outgoing.setTimeout(SILENCE_MS, () => outgoing.destroy());
      outgoing.on('error', () => {});
      outgoing.on('close', () => {
        clearTimeout(leave);
        resolve(away);
      });
      outgoing.on('response', (response) => {
        response.on('error', () => {});
        response.setEncoding('utf8');
        if (response.statusCode !== 200) {
          away = Number(response.headers['retry-after'] ?? 1) * 1000;
          void refusal(response).then((why) => {
            if (FATAL.has(response.statusCode ?? 0))
              reject(new VerifyError(`${new URL(url).origin} refuses: ${why}`));
          });
          return;
        }
        const parser = createParser({ onEvent: this.#reader((ms) => (away = ms)) });
        response.on('data', (chunk: string) => parser.feed(chunk));
      });
      outgoing.end();
    });
  }

  /** Takes the messages of one connection. */
  #reader(sentAway: (retryMs: number) => void): (message: EventSourceMessage) => void {
    const resumed = this.#cursor !== undefined;
    let begun = false;
    let liveSince: number | undefined;
    return ({ event, id, data }) => {
      const at = performance.now();
      if (id !== undefined) this.#cursor = id;
      if (event === 'session') {
        // Once more with a new resume token, it begins nothing.
        if (begun) return;
        begun = true;
        if (resumed) this.#resumes += 1;
        else {
          this.#start = Number(JSON.parse(data).cursor);
          this.#cursor = String(this.#start);
        }
      } else if (event === 'caught-up') {
        liveSince = at;
        this.#onCaughtUp();
      } else if (event === 'reset') {
        this.#resets += 1;
        this.#cursor = String(JSON.parse(data).cursor);
      } else if (event === 'disconnect') sentAway(Number(JSON.parse(data).retryAfterMs));
      else if (event?.includes(':')) this.#options.onEvent({ id: Number(id), data, at, liveSince });
    };
  }
}

async function refusal(response: http.IncomingMessage): Promise<string> {
  let body = '';
  for await (const chunk of response) body += chunk;
  try {
    const { status, code, detail } = JSON.parse(body);
    return `${status} ${code}: ${detail}`;
  } catch {
    return `${response.statusCode} ${response.statusMessage}`;
  }
}
