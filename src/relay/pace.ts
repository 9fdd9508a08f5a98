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

/** Fewer reads than that in a window, which found a writer after a writer, say nothing: 20 a second. */
const LEAST_CONTENDED = 4;

/** While events flow, writers are looked for, and what retention has dropped, every so many milliseconds. */
const LOOK_MS = 100;

/** What happened since the last read. */
export interface Seen {
  /** Rings heard. */
  readonly rings: number;
  /** Events read. */
  readonly events: number;
  /** The read found a writer in flight, and another one than the last read that looked for one; undefined if it did not look: it counts as that one. */
  readonly contended?: boolean;
}

/**
 * Whether a relay should sleep or poll. Asleep it is rung by every commit, and each ring makes that commit wait for the
 * ones before it, flush and all; so when rings come fast it stays awake and polls, until events have been few for a second.
 *
 * Rings cannot come faster than the disk flushes, since they wait for one another: behind a slow one they are few because writers queue up. So
 * writers who are in flight together, one after the other, wake it as well, however few there are, and keep it awake.
 */
export class Pace {
  readonly #options: PaceOptions;
  #awake = false;
  #windowStart: number;
  #rings = 0;
  #events = 0;
  #eventful = 0;
  #contended = 0;
  #quietWindows = 0;
  #lookDue = 0;
  #lastContended = false;

  /** @param now milliseconds, of a clock that never goes back */
  constructor(options: PaceOptions, now: number) {
    this.#options = options;
    this.#windowStart = now;
  }

  get awake(): boolean {
    return this.#awake;
  }

  /**
   * Events come and writers were looked for a moment ago: a poll may read what follows without a gap and no more. After one that found
   * nothing the next poll looks, since an id that never appears is a gap for ever.
   */
  flows(now: number): boolean {
    return this.#awake && now < this.#lookDue;
  }

  /** Takes note of a read. */
  note(now: number, { rings, events, contended }: Seen): void {
    this.#rings += rings;
    this.#events += events;
    this.#lastContended = contended ?? this.#lastContended;
    this.#eventful += events > 0 || this.#lastContended ? 1 : 0;
    this.#contended += this.#lastContended ? 1 : 0;
    if (events === 0) this.#lookDue = 0;
    else if (contended !== undefined) this.#lookDue = now + LOOK_MS;
    const { wakeRingsPerSecond } = this.#options;
    const elapsedMs = now - this.#windowStart;
    // More rings than a whole window may have decide at once: each one more would make a commit wait.
    const flood = !this.#awake && this.#rings > (wakeRingsPerSecond * WINDOW_MS) / 1000;
    if (elapsedMs < WINDOW_MS && !flood) return;
    const perSecond = 1000 / Math.max(elapsedMs, WINDOW_MS);
    // Most reads that found something found that more was about to follow. Events say nothing here: a transaction may append many.
    const queueing = this.#contended >= LEAST_CONTENDED && this.#contended * 2 >= this.#eventful;
    if (!this.#awake) {
      this.#awake = queueing || this.#rings * perSecond > wakeRingsPerSecond;
      this.#quietWindows = 0;
    } else {
      const quiet = !queueing && this.#events * perSecond < this.#options.sleepEventsPerSecond;
      this.#quietWindows = quiet ? this.#quietWindows + 1 : 0;
      this.#awake = this.#quietWindows < QUIET_WINDOWS;
    }
    this.#windowStart = now;
    this.#rings = 0;
    this.#events = 0;
    this.#eventful = 0;
    this.#contended = 0;
  }
}
