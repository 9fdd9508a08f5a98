import { type Client, DatabaseError } from 'pg';
import { CHANNEL, Listener, type ListenerOptions } from './listener.ts';
import type { RelayStats } from './stats.ts';

/*
 * The doorbell: how a relay sleeps without missing an event, and how writers know that nobody sleeps.
 *
 * NOTIFY takes a lock over the whole cluster from before the commit's disk flush until after it, so writers ring only if
 * somebody sleeps. A relay that is about to wait holds the doorbell key, an advisory lock, SHARED on its session. A writer tries
 * the same key EXCLUSIVE without waiting; if that fails it NOTIFYs. The two can miss each other only if the order is wrong, so
 *
 *   a writer  marks itself in flight, then tries the key, and ends its mark only after its rows are visible;
 *   a relay   takes the key, then looks for writers in flight, then reads, and waits for a ring only after a read that began
 *             with the key held and LISTEN in force, saw no writer in flight, nor the sequence move until then, and left nothing unread.
 *
 * Either the writer sees the sleeper or the sleeper sees the writer. A ring may still arrive while its writer's mark is up, when
 * the horizon hides its rows: that read saw a writer in flight, so the relay reads again soon and does not wait.
 * Before that read a relay that was rung hands on what needs no horizon (gaplessReader()); that read decides nothing. Awake, while
 * events flow, so are most polls, and nothing else.
 *
 * States of the relay's session:
 *
 *   awake    The key is not held; nobody rings; the relay reads every few milliseconds. So it is under load, and while writers
 *            queue up (see pace.ts); while the key is refused, which a writer's try does for a moment; and while nobody listens. It never waits for the key: behind
 *            a waiting sleeper the tries of writers would fail, and they would ring for nothing.
 *   asleep   The key is held; the relay reads when rung, and every safety interval in any case. A read that sees a writer in
 *            flight is followed by another one soon.
 *
 * What can be lost, in any order, and how it is found out:
 *
 *   rings    A ring carries nothing and promises nothing: the safety interval ends every wait. After a quiet one the relay lets go
 *            of the key, rings itself, and falls asleep anew, by all the steps above.
 *   LISTEN   It is on a session of its own (listener.ts), whose end counts as a ring, and which is given up if a self-test ring does
 *            not arrive in time. Until another one has heard a ring the relay is awake: it reads, and nobody rings in vain. So the
 *            key is always taken after LISTEN stands and given up after LISTEN is lost; between the two, the loss has ended the wait.
 *   the key  Gone with its session; or alone, through a pooler say, when letting go of it shows that it was not held.
 *   NOTIFY   Where the relay's own ring is refused (the queue is full), a sleeper would make every commit fail: it stays awake.
 *   both     Losing the session that reads and holds the key ends this doorbell; the relay opens both anew and reads at once.
 */

/** The advisory key of the doorbell, as in migrations/0002. */
const KEY = '21336::bigint << 48';

export class Doorbell {
  readonly #client: Client;
  readonly #listener: Listener;
  readonly #stats: RelayStats;
  #rung = false;
  #wake: (() => void) | undefined;
  #lost: Error | undefined;
  #asleep = false;

  /** @param client the relay's session, which will hold the key; it must never append */
  constructor(client: Client, options: Omit<ListenerOptions, 'onRing'>) {
    this.#client = client;
    this.#stats = options.stats;
    // Its end is the key's end: from then on nobody rings.
    client.on('error', (error) => this.#lose(error));
    client.on('end', () => this.#lose(new Error('the session that holds the doorbell key has ended')));
    this.#listener = new Listener({ ...options, onRing: () => this.#ring() });
  }

  get asleep(): boolean {
    return this.#asleep;
  }

  /** Rings are heard: the relay may sleep. */
  get hears(): boolean {
    return this.#listener.hears;
  }

  /** Begins to listen, in the background. */
  open(): void {
    this.#listener.start();
  }

  async close(): Promise<void> {
    await this.#listener.stop();
  }

  /** Takes the key, without waiting for it, if anybody listens; the next read decides whether the relay may wait. */
  async fallAsleep(): Promise<void> {
    this.#throwIfLost();
    if (this.#listener.untried) await this.#ringMyself();
    if (!this.#listener.hears) return this.wakeUp();
    if (this.#asleep) return;
    const { rows } = await this.#client.query(`select pg_try_advisory_lock_shared(${KEY}) as held`);
    this.#asleep = rows[0]?.held === true;
  }

  /** Lets go of the key, so that writers ring no more; a listener that has come meanwhile is tried under load as well. */
  async wakeUp(): Promise<void> {
    this.#throwIfLost();
    if (this.#listener.untried) await this.#ringMyself();
    if (!this.#asleep) return;
    const { rows } = await this.#client.query(`select pg_advisory_unlock_shared(${KEY}) as held`);
    this.#asleep = false;
    if (rows[0]?.held !== true) this.#stats.keyLosses += 1;
  }

  /**
   * The rings so far are answered by the read that now begins; later ones end the next {@link wait}. So does a listener that was
   * lost since the relay fell asleep: the read must begin with LISTEN in force.
   * @returns whether there was a ring
   */
  answer(): boolean {
    const rung = this.#rung;
    this.#rung = !this.#listener.hears;
    return rung;
  }

  /**
   * Waits for a ring; returns at once if there was one since {@link answer}. After `safetyMs` without one it wakes up and rings
   * itself through the real channel, which must be heard in time, and so returns in any case.
   * @throws if the client's session is lost
   */
  async wait(safetyMs: number, signal: AbortSignal): Promise<void> {
    await this.#ringWithin(safetyMs, signal);
    this.#throwIfLost();
    if (this.#rung || signal.aborted) return;
    await this.wakeUp();
    await this.#ringMyself();
  }

  async #ringMyself(): Promise<void> {
    const { rings } = this.#stats;
    try {
      await this.#client.query(`select pg_notify('${CHANNEL}', '')`);
    } catch (error) {
      if (!(error instanceof DatabaseError)) throw error;
      this.#listener.lose(error);
      // Full, the queue stays so when its readers have caught up, until somebody asks.
      await this.#client.query('select pg_notification_queue_usage()');
      return;
    }
    if (this.#stats.rings === rings) this.#listener.expectRing();
  }

  /** Resolves at a ring, after `ms`, or when it is of no use to wait. Without a promise that is aborted: making its error takes longer than the rest. */
  #ringWithin(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#rung || this.#lost !== undefined || signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', wake);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(wake, ms);
      signal.addEventListener('abort', wake);
      this.#wake = wake;
    });
  }

  #throwIfLost(): void {
    if (this.#lost !== undefined) throw this.#lost;
  }

  #ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  #lose(error: Error): void {
    this.#lost ??= error;
    this.#wake?.();
  }
}
