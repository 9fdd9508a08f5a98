import type { Membership } from './actor.ts';
import type { Asker, LookUpMemberships, MembershipSource } from './look-up.ts';
import type { Claims } from './token.ts';

/*
 * One statement for a herd.
 *
 * Everybody who opens a stream without a resume token costs a look-up, and after a cut everybody does at once. So who finds a look-up under way
 * waits for others, and they go together. Who finds nobody before them goes at once and alone.
 *
 * - They go when a turn of the event loop has brought nobody more and no more than one statement is under way, or when as many wait as
 *   one statement takes. So nobody waits for others who do not come: the turn of an idle loop is over at once, and that of one that is busy
 *   with a herd brings more of it. Without that a statement would be back before a few had come (5,000: 850 statements; with it, 60).
 * - A statement is one snapshot, and begins after its askers came: nobody joins one that is under way, however little of it has been done.
 *   So what is true of a look-up alone is true of each in it: what changed after an asker's start cursor is in what it returns.
 * - What one asker brings along may make the statement fail: a text that is none, a function of the adopter's that raises, or takes too long.
 *   Then each is looked up alone, and only those get the error whose own look-up failed. They go side by side, as the pool has room.
 * - A statement of many that fails, or is slow, makes the next ones smaller, down to two; one that was quick makes them larger again. What a
 *   function of the adopter's costs is not ours to know: a hundred one after the other could take longer than DATABASE_SILENCE_MS.
 * - Who has waited for `patienceMs`, while no statement came back, is refused, as by a pool that has no connection to give for so long: they had
 *   better come again. While statements do come back it is only a herd's turn that is waited for, and longer.
 */

/** Most statements under way that are not as large as they may be. */
const FEW = 2;
/** Most askers of one statement, when all is well and when it is not. */
const MOST_TOGETHER = 100;
const LEAST_TOGETHER = 2;
/** Longest time for which others are waited for, since the first came. */
const GATHER_MS = 250;
/** A statement that took longer was slow; one that took half of it was quick. */
const SLOW_SECONDS = 0.25;

export interface MembershipQueueOptions {
  readonly db: MembershipSource;
  readonly lookUp: LookUpMemberships;
  /** Most statements under way, while so many wait that each is as large as one may be; at least two, however small it is. */
  readonly concurrency: number;
  /** Longest wait for one's statement to begin while none comes back, as far as it is noticed: when somebody comes, or a statement has failed. */
  readonly patienceMs: number;
  /** Longest wait for it in any case. */
  readonly mostWaitMs: number;
  /** Milliseconds of a clock that never goes back. */
  readonly clock: () => number;
}

interface Waiting extends Asker {
  readonly since: number;
  readonly resolve: (membership: Membership) => void;
  readonly reject: (error: Error | undefined) => void;
}

/** Looks up memberships, those that wait for one another together. */
export class MembershipQueue {
  readonly #options: MembershipQueueOptions;
  readonly #waiting: Waiting[] = [];
  #most = MOST_TOGETHER;
  #running = 0;
  #gathering = false;
  #lookUps = 0;
  #statements = 0;
  /** When a statement last came back with an answer. */
  #answeredAt = Number.NEGATIVE_INFINITY;

  constructor(options: MembershipQueueOptions) {
    this.#options = options;
  }

  /** Memberships asked for so far. */
  get lookUps(): number {
    return this.#lookUps;
  }

  /** Statements sent so far. */
  get statements(): number {
    return this.#statements;
  }

  /** Those who wait for their statement to begin. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * As `LookUpMembership`. Who asked and has gone is looked up all the same: that costs less than to find them.
   * @throws CredentialError if the credential has been revoked; Error if it took too long; what pg throws
   */
  lookUp(claims: Claims, after: number): Promise<Membership> {
    this.#lookUps += 1;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ claims, after, since: this.#options.clock(), resolve, reject });
      this.#next();
    });
  }

  #next(): void {
    this.#refuseLate();
    while (this.#waiting.length >= this.#most && this.#running < this.#mostRunning) this.#begin();
    if (this.#waiting.length === 0 || this.#running >= FEW || this.#gathering) return;
    if (this.#running === 0 && this.#waiting.length === 1) this.#begin();
    else this.#gather();
  }

  get #mostRunning(): number {
    return Math.max(FEW, this.#options.concurrency);
  }

  /** Begins when a turn of the event loop has brought nobody more. */
  #gather(): void {
    const before = this.#lookUps;
    this.#gathering = true;
    setImmediate(() => {
      this.#gathering = false;
      const [first] = this.#waiting;
      if (first === undefined || this.#running >= FEW) return;
      const waited = this.#options.clock() - first.since;
      if (this.#lookUps > before && waited < GATHER_MS) this.#gather();
      else this.#begin();
    });
  }

  #refuseLate(): void {
    const { clock, patienceMs, mostWaitMs } = this.#options;
    const now = clock();
    const latest = now - (this.#answeredAt > now - patienceMs ? mostWaitMs : patienceMs);
    const inTime = this.#waiting.findIndex(({ since }) => since > latest);
    const late = inTime < 0 ? this.#waiting.length : inTime;
    for (const { reject } of this.#waiting.splice(0, late))
      reject(new Error('too many look-ups are waiting'));
  }

  #begin(): void {
    this.#running += 1;
    void this.#look(this.#waiting.splice(0, this.#most)).then(() => {
      this.#running -= 1;
      this.#next();
    });
  }

  /** Never throws. */
  async #look(askers: readonly Waiting[]): Promise<void> {
    const { db, lookUp } = this.#options;
    this.#statements += 1;
    try {
      const { outcomes, seconds } = await lookUp(db, askers);
      this.#answeredAt = this.#options.clock();
      this.#resize(askers.length, seconds);
      for (const [index, { resolve, reject }] of askers.entries()) {
        const outcome = outcomes[index];
        if (outcome === undefined || outcome instanceof Error) reject(outcome);
        else resolve(outcome);
      }
    } catch (error) {
      this.#resize(askers.length, Number.POSITIVE_INFINITY);
      if (askers.length > 1) await Promise.all(askers.map((asker) => this.#look([asker])));
      else askers[0]?.reject(error as Error);
    }
  }

  #resize(askers: number, seconds: number): void {
    if (askers < LEAST_TOGETHER) return;
    // One that began before they became smaller must not make them larger again by its failure.
    if (seconds > SLOW_SECONDS)
      this.#most = Math.min(this.#most, Math.max(LEAST_TOGETHER, Math.floor(askers / 2)));
    else if (seconds < SLOW_SECONDS / 2 && askers === this.#most)
      this.#most = Math.min(MOST_TOGETHER, askers * 2);
  }
}
