export interface PollIntervalOptions {
  /** Time from poll to poll, in milliseconds. */
  readonly pollIntervalMs: number;
  /** The same where polls wait in line, at most; less than `pollIntervalMs` is as much. */
  readonly maxPollIntervalMs: number;
}

/** Of the time, about so much may go by with polls that wait in line. */
const WAITING_SHARE = 1 / 8;
/** By so much the interval grows or shrinks with each poll. */
const STEP = 1.05;

/**
 * How long from poll to poll. Where writers take all the processors, or the database's answers wait for its disk, each poll stands in line
 * with them, and what it takes is taken from them; then fewer polls that find more each serve everybody better. So the interval grows while
 * answers come later than the quickest one did, by more than an eighth of the interval, and shrinks while they do not: the median poll
 * decides, and one that hangs for long changes next to nothing. What the network takes is in the quickest one too, so that a database far away
 * is polled as often as one nearby; and how long it takes to hand on what was found is not in it. See docs/decisions/0003-the-doorbell.md.
 */
export class PollInterval {
  readonly #leastMs: number;
  readonly #mostMs: number;
  #currentMs: number;
  #quickestMs = Number.POSITIVE_INFINITY;

  constructor({ pollIntervalMs, maxPollIntervalMs }: PollIntervalOptions) {
    this.#leastMs = pollIntervalMs;
    this.#mostMs = Math.max(pollIntervalMs, maxPollIntervalMs);
    this.#currentMs = pollIntervalMs;
  }

  /** In milliseconds. */
  get currentMs(): number {
    return this.#currentMs;
  }

  /** Takes note of a poll that was answered after so long, in milliseconds. */
  note(answeredMs: number): void {
    this.#quickestMs = Math.min(this.#quickestMs, answeredMs);
    const waits = answeredMs - this.#quickestMs > this.#currentMs * WAITING_SHARE;
    const nextMs = waits ? this.#currentMs * STEP : this.#currentMs / STEP;
    this.#currentMs = Math.min(Math.max(nextMs, this.#leastMs), this.#mostMs);
  }

  /**
   * How long to pause after a poll that took so long; all in milliseconds. What it took does not come on top, but it is followed by a rest as
   * long, `pollIntervalMs` at most: polls longer than the interval do not follow one another without a break.
   */
  pauseAfter(tookMs: number): number {
    return Math.max(1, this.#currentMs - tookMs, Math.min(tookMs, this.#leastMs));
  }
}
