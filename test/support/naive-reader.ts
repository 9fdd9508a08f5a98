import type { Pool } from 'pg';
import { column } from './session.ts';

/** Something that reads events after its own cursor. */
export interface Reader {
  /** The next ids. */
  read(): Promise<number[]>;
}

/** Reads on from the highest id it has seen, as everybody would at first: it loses an id that is committed out of order. */
export class NaiveReader implements Reader {
  readonly #pool: Pool;
  #cursor: number;

  constructor(pool: Pool, cursor: number) {
    this.#pool = pool;
    this.#cursor = cursor;
  }

  async read(): Promise<number[]> {
    const ids = await column<number>(this.#pool, 'select id from outbox where id > $1 order by id', [
      this.#cursor,
    ]);
    this.#cursor = ids.at(-1) ?? this.#cursor;
    return ids;
  }
}

/** Reads with `outbox_read`. */
export class OutboxReader implements Reader {
  readonly #pool: Pool;
  #cursor: number;

  constructor(pool: Pool, cursor: number) {
    this.#pool = pool;
    this.#cursor = cursor;
  }

  async read(): Promise<number[]> {
    const ids = await column<number>(this.#pool, 'select id from outbox_read($1, 1000)', [this.#cursor]);
    this.#cursor = ids.at(-1) ?? this.#cursor;
    return ids;
  }
}
