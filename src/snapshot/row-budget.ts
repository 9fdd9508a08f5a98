export class SnapshotTooLarge extends Error {
  override readonly name = 'SnapshotTooLarge';
}

/** How many rows one snapshot may still read, over all its queries. */
export class RowBudget {
  #left: number;

  constructor(rows: number) {
    this.#left = rows;
  }

  /** For the next query's LIMIT: one more than there may be, so that too many are noticed and no more than that are read. */
  get limit(): number {
    return this.#left + 1;
  }

  /**
   * Takes a query's rows off the budget.
   * @returns the rows
   * @throws SnapshotTooLarge
   */
  spend<Row>(rows: Row[]): Row[] {
    this.#left -= rows.length;
    if (this.#left < 0) throw new SnapshotTooLarge('the snapshot has too many rows');
    return rows;
  }
}
