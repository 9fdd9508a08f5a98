import { type Page, type Queryable, readPage } from './reader.ts';
import type { Replica } from './replica.ts';

export interface ReplayerOptions {
  readonly db: Queryable;
  /** Asked first, if there is one. */
  readonly replica?: Replica | undefined;
  /** Most pages read at a time; the others wait their turn. */
  readonly concurrency: number;
  readonly pageEvents: number;
  readonly pageBytes: number;
}

/** Reads pages of the past for subscribers that the window cannot help, a few at a time, first come first served. */
export class Replayer {
  readonly #options: ReplayerOptions;
  readonly #waiting: (() => void)[] = [];
  #running = 0;
  #pages = 0;

  constructor(options: ReplayerOptions) {
    this.#options = options;
  }

  /** Pages read so far. */
  get pages(): number {
    return this.#pages;
  }

  /** Whether the next reader would not have to wait. */
  get idle(): boolean {
    return this.#running < this.#options.concurrency;
  }

  /** Readers waiting for their turn. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * A page of the topics' events with `after < id <= through`; see `readPage`.
   * @throws what pg throws
   */
  async page(topics: readonly string[] | 'all', after: number, through: number): Promise<Page> {
    const { db, replica, concurrency, pageEvents, pageBytes } = this.#options;
    const limits = { maxEvents: pageEvents, maxBytes: pageBytes };
    if (this.#running >= concurrency) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running += 1;
    try {
      this.#pages += 1;
      return (
        (await replica?.page(topics, after, through, limits)) ??
        (await readPage(db, topics, after, through, limits))
      );
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}
