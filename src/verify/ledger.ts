/** What one subscriber was owed and what it got. */
export interface Tally {
  readonly delivered: number;
  readonly missed: number;
  readonly duplicated: number;
  readonly outOfOrder: number;
  /** Ids that it got and the outbox does not have. */
  readonly unexpected: number;
}

/**
 * Compares the ids that a subscriber gets with those that the outbox has, as both go on: what has been compared is forgotten, so
 * an hour of events takes no more memory than the part of it that is still under way.
 */
export class Ledger {
  #expected: number[] = [];
  #received: number[] = [];
  readonly #missed = new Set<number>();
  /** The last expected id that has been compared. */
  #passed = 0;
  #delivered = 0;
  #duplicated = 0;
  #outOfOrder = 0;
  #unexpected = 0;

  /** Rows of the outbox that the subscriber must get: rising ids, above all earlier ones. */
  expect(ids: Iterable<number>): void {
    for (const id of ids) this.#expected.push(id);
  }

  receive(id: number): void {
    this.#received.push(id);
  }

  /** Ids that were expected and have not been compared yet. */
  get owed(): number {
    return this.#expected.length;
  }

  /** Compares as far as both sides have come. */
  settle(): void {
    let next = 0;
    let at = 0;
    while (next < this.#expected.length && at < this.#received.length) {
      const want = this.#expected[next] as number;
      const got = this.#received[at] as number;
      if (got < want) {
        this.#strays(got);
        at += 1;
        continue;
      }
      if (got === want) {
        this.#delivered += 1;
        at += 1;
      } else this.#missed.add(want);
      this.#passed = want;
      next += 1;
    }
    this.#expected = this.#expected.slice(next);
    this.#received = this.#received.slice(at);
  }

  /** Nothing more will come: what is still owed is missed. */
  finish(): Tally {
    this.settle();
    for (const id of this.#expected.splice(0)) {
      this.#missed.add(id);
      this.#passed = id;
    }
    for (const id of this.#received.splice(0)) this.#strays(id);
    return this.tally();
  }

  /** Of what has been compared so far. */
  tally(): Tally {
    return {
      delivered: this.#delivered,
      missed: this.#missed.size,
      duplicated: this.#duplicated,
      outOfOrder: this.#outOfOrder,
      unexpected: this.#unexpected,
    };
  }

  /** An id that is not the next one: late, known already, or of no row at all. */
  #strays(id: number): void {
    if (this.#missed.delete(id)) {
      this.#delivered += 1;
      this.#outOfOrder += 1;
    } else if (id > this.#passed) this.#unexpected += 1;
    else this.#duplicated += 1;
  }
}

/** The sum of tallies. */
export function total(tallies: Iterable<Tally>): Tally {
  const sum = { delivered: 0, missed: 0, duplicated: 0, outOfOrder: 0, unexpected: 0 };
  for (const tally of tallies) {
    sum.delivered += tally.delivered;
    sum.missed += tally.missed;
    sum.duplicated += tally.duplicated;
    sum.outOfOrder += tally.outOfOrder;
    sum.unexpected += tally.unexpected;
  }
  return sum;
}
