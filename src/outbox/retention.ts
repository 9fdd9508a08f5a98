import type { Pool } from 'pg';

export interface RetentionOptions {
  readonly pool: Pool;
  readonly log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
  /** Events older than this go, with the whole partition that they are in. */
  readonly retentionHours: number;
  /** Time between two rounds, in milliseconds. */
  readonly intervalMs: number;
}

/** Somebody else holds the lock that a round needs: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const LOCK_NOT_AVAILABLE = '55P03';
/** A round that met a lock tries again so soon, in milliseconds. */
const RETRY_MS = 5000;

/**
 * Makes partitions ahead of the sequence, drops those that are too old, and forgets revocations of credentials that have expired. Every instance does it; the database lets one at a time.
 * It waits 100 ms at most for a lock, so that nobody waits long behind it, and tries again later.
 */
export class Retention {
  readonly #options: RetentionOptions;
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> | undefined;
  #stopped = false;
  #revocations = 0;

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  /** Revocations that the database held in the last round. */
  get revocations(): number {
    return this.#revocations;
  }

  /** Runs a round now and then one every interval, until {@link stop}. */
  start(): void {
    if (this.#round !== undefined || this.#stopped) return;
    this.#round = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#round;
  }

  async #run(): Promise<void> {
    const done = await this.#keep();
    if (this.#stopped) return;
    this.#timer = setTimeout(
      () => {
        this.#round = this.#run();
      },
      done ? this.#options.intervalMs : RETRY_MS,
    );
  }

  async #keep(): Promise<boolean> {
    const { pool, log, retentionHours } = this.#options;
    try {
      // Two transactions: attaching locks the default partition, and dropping then the whole outbox; a reader between the two
      // would wait for one and be waited for by the other.
      const made = await pool.query<{ count: number }>('select outbox_add_partitions() as count');
      const dropped = await pool.query<{ count: number }>(
        'select outbox_drop_partitions(now() - make_interval(hours => $1)) as count',
        [retentionHours],
      );
      const kept = await pool.query<{ count: number }>('select outbox_forget_revocations() as count');
      this.#revocations = kept.rows[0]?.count ?? 0;
      const changed = { made: made.rows[0]?.count ?? 0, dropped: dropped.rows[0]?.count ?? 0 };
      if (changed.made + changed.dropped > 0) log.info(changed, 'outbox partitions');
      return true;
    } catch (error) {
      if ((error as { code?: string }).code !== LOCK_NOT_AVAILABLE)
        log.warn({ err: error }, 'outbox partitions: will try again');
      return false;
    }
  }
}
