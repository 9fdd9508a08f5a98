export interface PaceOptions {
  /** Rings a second above which it is cheaper for everybody to poll. */
  readonly wakeRingsPerSecond: number;
  /** Events a second below which ringing is cheaper again; well below the other, so that the mode does not flutter. */
  readonly sleepEventsPerSecond: number;
}

/** Rates are judged over so long, in milliseconds. */
const WINDOW_MS = 200;
/** So many quiet windows in a row, and the relay goes to sleep. */
const QUIET_WINDOWS = 5;

/**
 * Whether a relay should sleep or poll. Asleep it is rung by every commit, and each ring makes that commit wait for the
 * ones before it; so when rings come fast it stays awake and polls, until events have been few for a second.
 */
export class Pace {
  readonly #options: PaceOptions;
  #awake = false;
  #windowStart: number;
  #rings = 0;
  #events = 0;
  #quietWindows = 0;

  /** @param now milliseconds, of a clock that never goes back */
  constructor(options: PaceOptions, now: number) {
    this.#options = options;
    this.#windowStart = now;
  }

  get awake(): boolean {
    return this.#awake;
  }

  /** Takes note of a read: rings heard and events read since the last one. */
  note(now: number, { rings, events }: { rings: number; events: number }): void {
    this.#rings += rings;
    this.#events += events;
    const { wakeRingsPerSecond } = this.#options;
    const elapsedMs = now - this.#windowStart;
    // More rings than a whole window may have decide at once: each one more would make a commit wait.
    const flood = !this.#awake && this.#rings > (wakeRingsPerSecond * WINDOW_MS) / 1000;
    if (elapsedMs < WINDOW_MS && !flood) return;
    const perSecond = 1000 / Math.max(elapsedMs, WINDOW_MS);
    if (!this.#awake) {
      this.#awake = this.#rings * perSecond > wakeRingsPerSecond;
      this.#quietWindows = 0;
    } else {
      this.#quietWindows =
        this.#events * perSecond < this.#options.sleepEventsPerSecond ? this.#quietWindows + 1 : 0;
      this.#awake = this.#quietWindows < QUIET_WINDOWS;
    }
    this.#windowStart = now;
    this.#rings = 0;
    this.#events = 0;
  }
}
