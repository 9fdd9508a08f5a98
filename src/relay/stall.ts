import type { Queryable } from '../outbox/reader.ts';

/** A transaction that holds back every reader. */
export interface Holder {
  /** Null: a prepared transaction. */
  readonly pid: number | null;
  readonly applicationName: string | null;
}

export interface Stall {
  /** How long the horizon has not moved although a writer is in flight. */
  readonly seconds: number;
  readonly holders: readonly Holder[];
}

/** Notices when a writer in flight has held the horizon for long, and says who it is. */
export class StallWatch {
  readonly #alertMs: number;
  #horizon = -1;
  #sinceMs = 0;
  #lookedMs = 0;
  #stall: Stall | undefined;

  constructor(alertSeconds: number) {
    this.#alertMs = alertSeconds * 1000;
  }

  /** Undefined while nothing is wrong. */
  get stall(): Stall | undefined {
    return this.#stall;
  }

  /**
   * Takes note of a read; asks the database for the holders when the alert is due, and again each time it has passed once more.
   * @param nowMs milliseconds, of a clock that never goes back
   * @returns the stall if it was looked at just now
   */
  async note(
    db: Queryable,
    { horizon, inFlight }: { horizon: number; inFlight: boolean },
    nowMs: number,
  ): Promise<Stall | undefined> {
    if (!inFlight || horizon !== this.#horizon) {
      this.#horizon = inFlight ? horizon : -1;
      this.#sinceMs = nowMs;
      this.#lookedMs = nowMs;
      this.#stall = undefined;
    }
    if (nowMs - this.#lookedMs < this.#alertMs) return undefined;
    this.#lookedMs = nowMs;
    const { rows } = await db.query({
      text: 'select pid, application_name from outbox_inflight where horizon = $1',
      values: [horizon],
      rowMode: 'array',
    });
    this.#stall = {
      seconds: (nowMs - this.#sinceMs) / 1000,
      holders: rows.map(([pid, name]) => ({
        pid: pid as number | null,
        applicationName: name as string | null,
      })),
    };
    return this.#stall;
  }
}
