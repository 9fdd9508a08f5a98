import type { Session, Status } from './events.ts';
import type { Line, Listener, Message, Source } from './source.ts';

/** As much of the Web Locks API (https://w3c.github.io/web-locks/) as is needed. */
export interface Locks {
  request(name: string, options: { signal: AbortSignal }, work: () => Promise<void>): Promise<unknown>;
}

/** What tabs say to each other. */
type Word =
  | { readonly kind: 'message'; readonly message: Message }
  | { readonly kind: 'status'; readonly status: Status }
  /** A tab has come, and asks where the stream is. */
  | { readonly kind: 'hello' }
  | { readonly kind: 'here'; readonly status: Status; readonly position?: number; readonly session?: Session }
  /** A tab lacks what comes after this cursor. */
  | { readonly kind: 'need'; readonly cursor: number };

/**
 * One stream for all tabs that name the same line.
 *
 * Whoever holds the lock of that name leads: it has the stream, and passes on every block together with the cursor before it.
 * The others follow. The browser gives the lock to the next tab when the leader closes, crashes or gives up, and that one begins
 * at its own cursor. Nobody trusts the channel to be complete: a tab whose cursor is behind the cursor before a block says what
 * it needs, and the leader takes the stream from there once more; those who have had it drop it, by id. So a tab that comes late
 * with an old cursor, one that slept, and one that the last leader left behind are all the same case.
 */
export class SharedLine implements Line {
  readonly #name: string;
  readonly #locks: Locks;
  readonly #makeSource: (listener: Listener) => Source;
  readonly #receiver: Listener & { readonly cursor: number | undefined };
  readonly #stopping = new AbortController();
  #channel: InstanceType<typeof BroadcastChannel> | undefined;
  #source: Source | undefined;
  #status: Status = { state: 'connecting' };
  #session: Session | undefined;
  /** What this tab has asked for; blocks that were on their way then are no reason to ask again. */
  #asked: number | undefined;

  /**
   * @param name same for all tabs that may share: the same service, person and topics
   * @param receiver this tab's application; its cursor is where this tab begins, should it come to lead
   */
  constructor(
    name: string,
    locks: Locks,
    makeSource: (listener: Listener) => Source,
    receiver: Listener & { readonly cursor: number | undefined },
  ) {
    this.#name = name;
    this.#locks = locks;
    this.#makeSource = makeSource;
    this.#receiver = receiver;
  }

  seek(cursor: number | undefined): void {
    if (this.#stopping.signal.aborted) return;
    if (this.#channel === undefined) this.#join();
    else if (this.#source !== undefined) this.#source.seek(cursor);
    else if (cursor !== undefined && cursor !== this.#asked) {
      this.#asked = cursor;
      this.#say({ kind: 'need', cursor });
    }
  }

  stop(): void {
    this.#stopping.abort();
    this.#source?.stop();
    this.#channel?.close();
  }

  #join(): void {
    const channel = new BroadcastChannel(this.#name);
    this.#channel = channel;
    channel.onmessage = ({ data }: { data: unknown }) => this.#hear(data as Word);
    this.#say({ kind: 'hello' });
    const { signal } = this.#stopping;
    // Rejected when it is stopped while it waits.
    this.#locks.request(this.#name, { signal }, () => this.#lead()).catch(() => {});
  }

  /** Has the stream, until it is stopped or refused for good; then the next tab tries, with a credential of its own. */
  #lead(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#stopping.signal.aborted) return resolve();
      this.#stopping.signal.addEventListener('abort', () => resolve());
      const source = this.#makeSource({
        onMessage: (message) => {
          if (message.type === 'session') this.#session = message.data as Session;
          this.#say({ kind: 'message', message });
          this.#receiver.onMessage(message);
        },
        onStatus: (status) => {
          this.#status = status;
          if (status.state === 'closed') {
            this.stop();
            resolve();
          } else this.#say({ kind: 'status', status });
          this.#receiver.onStatus(status);
        },
      });
      this.#source = source;
      source.seek(this.#receiver.cursor);
      this.#here();
    });
  }

  #hear(word: Word): void {
    const source = this.#source;
    if (this.#stopping.signal.aborted) return;
    if (source !== undefined) {
      if (word.kind === 'hello') this.#here();
      else if (word.kind === 'need') source.seek(word.cursor);
      return;
    }
    if (word.kind !== 'message') this.#asked = undefined;
    if (word.kind === 'message') this.#receiver.onMessage(word.message);
    else if (word.kind === 'status') this.#receiver.onStatus(word.status);
    else if (word.kind === 'here') this.#arrive(word);
  }

  /** The leader says where it is. A tab that is behind finds out by that, as by any message. */
  #arrive({ status, position, session }: Extract<Word, { kind: 'here' }>): void {
    this.#receiver.onStatus(status);
    if (position === undefined) return;
    if (session !== undefined)
      this.#receiver.onMessage({ from: position, type: 'session', id: undefined, data: session });
    this.#receiver.onMessage({ from: position, type: 'cursor', id: undefined, data: undefined });
  }

  #here(): void {
    const position = this.#source?.position;
    this.#say({
      kind: 'here',
      status: this.#status,
      ...(position === undefined ? {} : { position }),
      ...(this.#session === undefined ? {} : { session: this.#session }),
    });
  }

  #say(word: Word): void {
    this.#channel?.postMessage(word);
  }
}
