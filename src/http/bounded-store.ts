import type { IncrementResponse, Options, Store } from 'express-rate-limit';

export interface BoundedStoreOptions {
  /** Most keys counted at a time; beyond, the oldest is forgotten, so that whoever makes up keys gains nothing but that. */
  readonly maxEntries: number;
  /** Milliseconds of a clock that never goes back. */
  readonly clock: () => number;
}

interface Entry {
  hits: number;
  readonly endsAt: number;
}

/**
 * What express-rate-limit counts with: hits by key, each key's window beginning with its first hit. All windows are equally
 * long, so the entries are in the order in which they end, and those that have ended are dropped from the front.
 */
export class BoundedStore implements Store {
  readonly localKeys = true;
  readonly #options: BoundedStoreOptions;
  readonly #entries = new Map<string, Entry>();
  #windowMs = 0;
  #evictions = 0;

  constructor(options: BoundedStoreOptions) {
    this.#options = options;
  }

  /** Keys whose window has not ended. */
  get size(): number {
    this.#expire();
    return this.#entries.size;
  }

  /** Keys forgotten before their window had ended. */
  get evictions(): number {
    return this.#evictions;
  }

  init({ windowMs }: Options): void {
    this.#windowMs = windowMs;
  }

  /** Milliseconds until the key's window ends; 0 if it has none. */
  leftMs(key: string): number {
    const entry = this.#entries.get(key);
    return entry === undefined ? 0 : Math.max(0, entry.endsAt - this.#options.clock());
  }

  increment(key: string): IncrementResponse {
    this.#expire();
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      if (this.#entries.size >= this.#options.maxEntries) this.#evict();
      entry = { hits: 0, endsAt: this.#options.clock() + this.#windowMs };
      this.#entries.set(key, entry);
    }
    entry.hits += 1;
    return { totalHits: entry.hits, resetTime: undefined };
  }

  decrement(key: string): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined && entry.hits > 0) entry.hits -= 1;
  }

  resetKey(key: string): void {
    this.#entries.delete(key);
  }

  #evict(): void {
    for (const key of this.#entries.keys()) {
      this.#entries.delete(key);
      this.#evictions += 1;
      return;
    }
  }

  #expire(): void {
    const now = this.#options.clock();
    for (const [key, { endsAt }] of this.#entries) {
      if (endsAt > now) return;
      this.#entries.delete(key);
    }
  }
}
