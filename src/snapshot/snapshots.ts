import type { Kysely } from 'kysely';
import type { MembershipSource } from '../access/look-up.ts';
import type { Database } from '../database.ts';
import { SnapshotTooLarge } from './row-budget.ts';
import { readSnapshot } from './snapshot.ts';
import type { TopicState } from './state.ts';

export interface SnapshotsOptions {
  readonly db: Kysely<Database>;
  /** Most snapshots read at a time; the others wait their turn. */
  readonly concurrency: number;
  /** Most that wait; beyond, they are refused. */
  readonly maxWaiting: number;
  /** Most rows that one snapshot reads. */
  readonly maxRows: number;
}

/** Too many snapshots are waiting already. */
export class SnapshotsBusy extends Error {
  override readonly name = 'SnapshotsBusy';
}

/** Reads snapshots, a few at a time, first come first served, so that they leave the database to those who connect. */
export class Snapshots {
  readonly #options: SnapshotsOptions;
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #refused = 0;
  #tooLarge = 0;

  constructor(options: SnapshotsOptions) {
    this.#options = options;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Refused so far because too many were waiting. */
  get refused(): number {
    return this.#refused;
  }

  /** Given up so far because they had too many rows. */
  get tooLarge(): number {
    return this.#tooLarge;
  }

  /**
   * The present state of the topics that `decide` names; see `readSnapshot`.
   * @throws SnapshotsBusy, SnapshotTooLarge, what `decide` throws, and what pg throws
   */
  async read(
    decide: (source: MembershipSource) => Promise<readonly string[]>,
  ): Promise<Record<string, TopicState>> {
    await this.#turn();
    try {
      return await readSnapshot(this.#options.db, decide, this.#options.maxRows);
    } catch (error) {
      if (error instanceof SnapshotTooLarge) this.#tooLarge += 1;
      throw error;
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  async #turn(): Promise<void> {
    if (this.#running < this.#options.concurrency) {
      this.#running += 1;
      return;
    }
    if (this.#waiting.length >= this.#options.maxWaiting) {
      this.#refused += 1;
      throw new SnapshotsBusy('too many snapshots are waiting');
    }
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }
}
