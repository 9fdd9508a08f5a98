/** Steps done are forgotten so many at a time. */
const COMPACT_AFTER = 1024;

/**
 * Whose turn it is. Replays are cut into steps of a millisecond or less; a step waits here, and the event loop goes on to timers and
 * sockets whenever steps have taken a few milliseconds together. So five thousand who replay at once make a live event wait for
 * one share of them, not for them all.
 */
export class Turns {
  readonly #shareMs: number;
  readonly #waiting: (() => void)[] = [];
  #next = 0;
  #shareEndsMs = 0;

  /** @param shareMs how long steps may keep the event loop to themselves */
  constructor(shareMs: number) {
    this.#shareMs = shareMs;
  }

  /** Steps that wait for their turn. */
  get waiting(): number {
    return this.#waiting.length - this.#next;
  }

  /** Resolves when it is the caller's turn, first come first served; the step is what the caller then does before it awaits anything. */
  take(): Promise<void> {
    if (this.waiting === 0) setImmediate(this.#share);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  readonly #share = (): void => {
    this.#shareEndsMs = performance.now() + this.#shareMs;
    this.#step();
  };

  readonly #step = (): void => {
    this.#waiting[this.#next]?.();
    this.#next += 1;
    if (this.waiting === 0 || this.#next === COMPACT_AFTER) {
      this.#waiting.splice(0, this.#next);
      this.#next = 0;
    }
    if (this.waiting === 0) return;
    if (performance.now() < this.#shareEndsMs) {
      // Behind the step that has just been let go, which runs first.
      queueMicrotask(this.#step);
    } else setImmediate(this.#share);
  };
}
