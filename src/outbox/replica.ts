import type { Pool } from 'pg';
import { type Page, type PageLimits, type Queryable, readPage } from './reader.ts';

/*
 * Old replays from a replica.
 *
 * A standby has no in-flight locks and may lag, so it is asked only for what is settled on the primary, and only when it has all of that.
 * A mark says so: an id that a relay has read on the primary, and the primary's WAL position, read after that. Every row up to the
 * id was visible before, so its commit lies before the position; a standby that has replayed up to there has them all, or will never. The
 * question and the page are asked on one connection, so that a name that leads to several standbys cannot answer one by one and the other
 * by another. Who lags, is in another epoch or does not answer is passed over: the page then comes from the primary.
 */

interface Mark {
  readonly through: number;
  readonly lsn: string;
  readonly epoch: string;
}

export interface ReplicaOptions {
  readonly primary: Queryable;
  readonly pool: Pool;
  readonly log: { warn(fields: object, message: string): void };
  /** Milliseconds, of a clock that never goes back. */
  readonly now: () => number;
}

/** After an error it is left alone for so long, in milliseconds. */
const REST_MS = 5000;

export class Replica {
  readonly #options: ReplicaOptions;
  #mark: Mark | undefined;
  #restUntilMs = Number.NEGATIVE_INFINITY;
  #pages = 0;
  #passedOver = 0;

  constructor(options: ReplicaOptions) {
    this.#options = options;
  }

  /** Pages read from it. */
  get pages(): number {
    return this.#pages;
  }

  /** Pages that it could not give: it lagged, was in another epoch, or did not answer. */
  get passedOver(): number {
    return this.#passedOver;
  }

  /** As `readPage`, perhaps ending earlier; undefined if the primary is to be asked. Never throws. */
  async page(
    topics: readonly string[] | 'all',
    after: number,
    through: number,
    limits: PageLimits,
  ): Promise<Page | undefined> {
    const { log, now } = this.#options;
    let page: Page | undefined;
    try {
      if (now() >= this.#restUntilMs) page = await this.#read(topics, after, through, limits);
    } catch (error) {
      log.warn({ err: error }, 'the replica for replays did not answer');
      this.#restUntilMs = now() + REST_MS;
    }
    if (page === undefined) this.#passedOver += 1;
    else this.#pages += 1;
    return page;
  }

  async #read(
    topics: readonly string[] | 'all',
    after: number,
    through: number,
    limits: PageLimits,
  ): Promise<Page | undefined> {
    const mark = await this.#markBeyond(after, through);
    const client = await this.#options.pool.connect();
    let failed = true;
    try {
      const { rows } = await client.query({
        text: 'select pg_is_in_recovery() and pg_last_wal_replay_lsn() >= $1::pg_lsn and m.epoch = $2 from outbox_meta m',
        values: [mark.lsn, mark.epoch],
        rowMode: 'array',
      });
      const page =
        rows[0]?.[0] === true
          ? await readPage(client, topics, after, Math.min(through, mark.through), limits)
          : undefined;
      failed = false;
      return page;
    } finally {
      client.release(failed);
    }
  }

  /** The mark in use, or a new one if that does not reach beyond the cursor. */
  async #markBeyond(after: number, through: number): Promise<Mark> {
    if (this.#mark !== undefined && this.#mark.through > after) return this.#mark;
    const { rows } = await this.#options.primary.query({
      text: 'select pg_current_wal_lsn(), m.epoch from outbox_meta m',
      rowMode: 'array',
    });
    const [lsn, epoch] = rows[0] ?? [];
    this.#mark = { through, lsn: String(lsn), epoch: String(epoch) };
    return this.#mark;
  }
}
