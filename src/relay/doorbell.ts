import { setTimeout as delay } from 'node:timers/promises';
import type { Client, ClientConfig } from 'pg';
import pgListen, { type Subscriber as Listener } from 'pg-listen';

/*
 * The doorbell: how a relay sleeps without missing an event, and how writers know that nobody sleeps.
 *
 * NOTIFY takes a lock over the whole cluster from before the commit's disk flush until after it, so writers ring only if
 * somebody sleeps. A relay that is about to wait holds the doorbell key, an advisory lock, SHARED on its session. A writer tries
 * the same key EXCLUSIVE without waiting; if that fails it NOTIFYs. The two can miss each other only if the order is wrong, so
 *
 *   a writer  marks itself in flight, then tries the key, and ends its mark only after its rows are visible;
 *   a relay   takes the key, then looks for writers in flight, then reads, and waits for a ring only after a read that began
 *             with the key held, saw no writer in flight, nor the sequence move until then, and left nothing unread.
 *
 * Either the writer sees the sleeper or the sleeper sees the writer. A ring may still arrive while its writer's mark is up, when
 * the horizon hides its rows: that read saw a writer in flight, so the relay reads again soon and does not wait.
 *
 * States of the relay's session:
 *
 *   awake    The key is not held; nobody rings; the relay reads every few milliseconds. So it is under load (see pace.ts), and
 *            while the key is refused, which a writer's try does for a moment. It never waits for the key: behind a waiting
 *            sleeper the tries of writers would fail, and they would ring for nothing.
 *   asleep   The key is held; the relay reads when rung, and every safety interval in any case. A read that sees a writer in
 *            flight is followed by another one soon.
 *
 * A ring carries nothing and promises nothing. LISTEN is pg-listen's, on a session of its own; it can look alive when the network
 * has swallowed it, so after a quiet safety interval the relay rings itself, and a ring that does not arrive in time means that
 * the session is dead. Reconnecting is the relay's: it opens both sessions anew and reads at once.
 */

export const CHANNEL = 'outbox';

/** The advisory key of the doorbell, as in migrations/0002. */
const KEY = '21336::bigint << 48';

/** How long a self-test ring may take, in milliseconds. */
const SELF_TEST_MS = 2000;

export class Doorbell {
  readonly #client: Client;
  readonly #listener: Listener;
  #rung = false;
  #wake: (() => void) | undefined;
  #lost: Error | undefined;
  #asleep = false;
  #rings = 0;

  /**
   * @param client the relay's session, which will hold the key; it must never append
   * @param listenOptions pg connection options for the session that listens
   */
  constructor(client: Client, listenOptions: ClientConfig) {
    this.#client = client;
    // Its end is the key's end: from then on nobody rings.
    client.on('error', (error) => this.#lose(error));
    client.on('end', () => this.#lose(new Error('the session that holds the doorbell key has ended')));
    this.#listener = pgListen.default(listenOptions, {
      // Reconnecting is the relay's; paranoid checks would be a second self-test.
      retryLimit: 1,
      paranoidChecking: false,
      parse: (payload: string) => payload,
    });
    this.#listener.events.on('error', (error) => this.#lose(error));
    this.#listener.notifications.on(CHANNEL, () => this.#ring());
  }

  /** Rings heard so far. */
  get rings(): number {
    return this.#rings;
  }

  get asleep(): boolean {
    return this.#asleep;
  }

  /** Begins to listen. */
  async open(): Promise<void> {
    await this.#listener.connect();
    await this.#listener.listenTo(CHANNEL);
  }

  async close(): Promise<void> {
    this.#listener.events.removeAllListeners('error');
    this.#listener.events.on('error', () => {});
    await this.#listener.close().catch(() => {});
  }

  /** Takes the key, without waiting for it; the next read decides whether the relay may wait. */
  async fallAsleep(): Promise<void> {
    this.#throwIfLost();
    if (this.#asleep) return;
    const { rows } = await this.#client.query(`select pg_try_advisory_lock_shared(${KEY}) as held`);
    this.#asleep = rows[0]?.held === true;
  }

  /** Lets go of the key, so that writers ring no more. */
  async wakeUp(): Promise<void> {
    this.#throwIfLost();
    if (!this.#asleep) return;
    await this.#client.query(`select pg_advisory_unlock_shared(${KEY})`);
    this.#asleep = false;
  }

  /** The rings so far are answered by the read that now begins; later ones end the next {@link wait}. */
  answer(): void {
    this.#rung = false;
  }

  /**
   * Waits for a ring; returns at once if there was one since {@link answer}. After `safetyMs` without one it rings itself through the real channel, and so returns in any case.
   * @throws if the listening session is lost or its own ring does not come back
   */
  async wait(safetyMs: number, signal: AbortSignal): Promise<void> {
    if (await this.#ringWithin(safetyMs, signal)) return;
    await this.#client.query(`select pg_notify('${CHANNEL}', '')`);
    if (!(await this.#ringWithin(SELF_TEST_MS, signal)))
      throw new Error('the listening session does not hear its own ring');
  }

  async #ringWithin(ms: number, signal: AbortSignal): Promise<boolean> {
    const expiry = new AbortController();
    const stop = (): void => this.#wake?.();
    signal.addEventListener('abort', stop);
    try {
      if (!this.#rung && this.#lost === undefined && !signal.aborted) {
        await Promise.race([
          new Promise<void>((resolve) => {
            this.#wake = resolve;
          }),
          delay(ms, undefined, { signal: expiry.signal }).catch(() => {}),
        ]);
      }
    } finally {
      this.#wake = undefined;
      expiry.abort();
      signal.removeEventListener('abort', stop);
    }
    this.#throwIfLost();
    return this.#rung || signal.aborted;
  }

  #throwIfLost(): void {
    if (this.#lost !== undefined) throw this.#lost;
  }

  #ring(): void {
    this.#rings += 1;
    this.#rung = true;
    this.#wake?.();
  }

  #lose(error: Error): void {
    this.#lost ??= error;
    this.#wake?.();
  }
}
