import pgListen from 'pg-listen';
import { pauseAfter, SessionSocket } from './session.ts';
import type { RelayLog, RelayStats } from './stats.ts';

export const CHANNEL = 'outbox';

export interface ListenerOptions {
  readonly connectionString: string;
  /** In which a connection must stand, LISTEN be answered, and a ring that is expected arrive. */
  readonly timeoutMs: number;
  readonly log: RelayLog;
  /** Rings and losses are counted here. */
  readonly stats: RelayStats;
  /** Called at each ring, and at each loss: rings may have been missed. */
  readonly onRing: () => void;
}

/**
 * The session that listens, opened in the background and again whenever it is lost. LISTEN is pg-listen's; reconnecting is not: its
 * own gives up, and a session that the network has swallowed looks alive to it. One that has been opened is trusted only when it
 * has heard a ring, and whoever has rung says so with {@link expectRing}.
 */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #state: 'away' | 'untried' | 'tried' | 'hears' = 'away';
  #deadline: NodeJS.Timeout | undefined;
  #failures = 0;
  #end: (error: Error) => void = () => {};

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  /** LISTEN stands, and a ring has come through it. */
  get hears(): boolean {
    return this.#state === 'hears';
  }

  /** LISTEN stands, and needs a ring to show that it does. */
  get untried(): boolean {
    return this.#state === 'untried';
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#end(new Error('the listener was stopped'));
    await this.#running;
  }

  /** A ring was sent: a session that does not hear one in time is dead. */
  expectRing(): void {
    if (this.#state === 'away') return;
    if (this.#state === 'untried') this.#state = 'tried';
    this.#deadline ??= setTimeout(
      () => this.lose(new Error('the listening session does not hear rings')),
      this.#options.timeoutMs,
    );
  }

  /** Gives the session up, and opens another one. */
  lose(error: Error): void {
    this.#end(error);
  }

  async #run(): Promise<void> {
    const { log, stats, onRing } = this.#options;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#session();
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        this.#failures += 1;
        stats.listenLosses += 1;
        log.warn({ err: error, failures: this.#failures }, 'relay: nobody listens, polling meanwhile');
        onRing();
        await pauseAfter(this.#failures, this.#stop.signal);
      }
    }
  }

  /** One session, from connecting until it is lost: always throws. */
  async #session(): Promise<never> {
    const { connectionString, timeoutMs } = this.#options;
    const socket = new SessionSocket({
      connectionString,
      applicationName: 'settlewire listen',
      connectTimeoutMs: timeoutMs,
      queryTimeoutMs: timeoutMs,
    });
    const listener = pgListen.default(socket.config, {
      retryLimit: 1,
      // Would be a second self-test.
      paranoidChecking: false,
      parse: (payload: string) => payload,
    });
    const lost = new Promise<never>((_, reject) => {
      this.#end = reject;
      listener.events.on('error', reject);
    });
    listener.notifications.on(CHANNEL, () => this.#hear());
    try {
      await Promise.race([lost, listener.connect()]);
      await Promise.race([lost, listener.listenTo(CHANNEL)]);
      // A ring may have come in the same packet.
      if (this.#state === 'away') this.#state = 'untried';
      return await lost;
    } finally {
      this.#state = 'away';
      clearTimeout(this.#deadline);
      this.#deadline = undefined;
      listener.notifications.removeAllListeners(CHANNEL);
      listener.events.removeAllListeners('error');
      listener.events.on('error', () => {});
      await socket.end(listener.close());
    }
  }

  #hear(): void {
    clearTimeout(this.#deadline);
    this.#deadline = undefined;
    this.#state = 'hears';
    if (this.#failures > 0) this.#options.log.info({ failures: this.#failures }, 'relay: hears again');
    this.#failures = 0;
    this.#options.stats.rings += 1;
    this.#options.onRing();
  }
}
