import { type CredentialsRevoked, EVERYBODY, endsSessions, type Revocable } from '../outbox/access-change.ts';
import type { Frame } from '../sse/frame.ts';

/** What a subscriber may ask to be told of. */
export interface Request {
  /**
   * `feed`: everything the actor may see, growing and shrinking; `named`: the topics asked for, as long as the actor may see them.
   * For administrators, who lose nothing with a ground for it: `all`, every topic; `fixed`, the topics asked for.
   */
  readonly mode: 'feed' | 'named' | 'all' | 'fixed';
  /** The topics that the actor may see at the start cursor: of the feed, or of those named. */
  readonly topics: Iterable<string>;
  /** The topics asked for by name; a grant adds only these. */
  readonly named?: Iterable<string>;
  /** The actor's own topics (`user:`, `wallet:`): their `access:*` events are heard, though perhaps not delivered. */
  readonly own: readonly string[];
  /** Ids of access events that were already known when the actor was let in: they end no stream, or a replay of them would for ever. */
  readonly known?: Iterable<number>;
  /** By what the stream's credential can be revoked. */
  readonly credential?: Revocable;
}

const NEVER_REVOKED: Revocable = { topics: [], issuedAt: null };

/** What a frame does to a subscription. */
export type Effect = 'deliver' | 'skip' | 'deliver-and-end' | 'skip-and-end' | 'end-session';

/**
 * Which topics one subscriber gets, at its cursor. Access changes are events like others and are applied at their place in
 * the order, live or replayed: nothing after a revocation is delivered, and nothing before a grant.
 */
export class Subscription {
  readonly #mode: Request['mode'];
  readonly #topics: Set<string>;
  readonly #named: ReadonlySet<string>;
  readonly #own: readonly string[];
  readonly #known: ReadonlySet<number>;
  readonly #credential: Revocable;
  readonly #heard: Set<string>;

  constructor({ mode, topics, named = [], own, known = [], credential = NEVER_REVOKED }: Request) {
    this.#mode = mode;
    this.#topics = new Set(topics);
    this.#named = new Set(named);
    this.#own = own;
    this.#known = new Set(known);
    this.#credential = credential;
    this.#heard = new Set([...this.#topics, ...own, ...credential.topics]);
  }

  /** Topics whose frames must reach {@link apply}: those delivered, the actor's own and the credential's. `all` for every topic. */
  get heard(): ReadonlySet<string> | 'all' {
    return this.#mode === 'all' ? 'all' : this.#heard;
  }

  /** How many topics are delivered; null for all. */
  get count(): number | null {
    return this.#mode === 'all' ? null : this.#topics.size;
  }

  /** At most `max` of the topics delivered. */
  list(max: number): string[] {
    return this.#mode === 'all' ? ['*'] : [...this.#topics].slice(0, max);
  }

  /** Whether it delivers this topic, at its cursor. */
  has(topic: string): boolean {
    return this.#mode === 'all' || this.#topics.has(topic);
  }

  /** Whether it delivers all of these topics, at its cursor. */
  delivers(topics: readonly string[]): boolean {
    return topics.every((topic) => this.has(topic));
  }

  /**
   * What to do with a frame of a heard topic; applies it if it changes access. Call it once per frame, in order.
   *
   * A user's own topic taken away, on any topic of the actor's, means that who they are has changed: for a wallet that
   * somebody has linked it is the topic of a user that the session does not know yet.
   */
  apply(frame: Frame): Effect {
    const wanted = this.has(frame.topic);
    const change = frame.access;
    if (change === undefined) return deliverIf(wanted);
    const known = this.#known.has(frame.id);
    if (change.kind === 'credentials-revoked')
      return !known && this.isRevokedBy(frame.topic, change) ? 'end-session' : 'skip';
    if (this.#own.includes(frame.topic) || frame.topic === EVERYBODY) {
      if (endsSessions(change)) return known ? deliverIf(wanted) : 'end-session';
      if (change.kind === 'granted') this.#grant(change.topic);
      else if (change.kind === 'revoked' && this.#revoke(change.topic) && !known)
        return wanted ? 'deliver-and-end' : 'skip-and-end';
    }
    return deliverIf(wanted);
  }

  /** Whether a revocation on this topic concerns the stream's credential. */
  isRevokedBy(topic: string, { issuedBefore }: CredentialsRevoked): boolean {
    const { topics, issuedAt } = this.#credential;
    return topics.includes(topic) && (issuedAt === null || issuedAt <= issuedBefore);
  }

  #grant(topic: string): void {
    if (this.#mode === 'fixed' || (this.#mode === 'named' && !this.#named.has(topic))) return;
    this.#topics.add(topic);
    this.#heard.add(topic);
  }

  /** @returns whether the last topic that was asked for by name has gone */
  #revoke(topic: string): boolean {
    if (this.#mode === 'fixed' || !this.#topics.delete(topic)) return false;
    if (!this.#own.includes(topic)) this.#heard.delete(topic);
    return this.#mode === 'named' && this.#topics.size === 0;
  }
}

function deliverIf(wanted: boolean): Effect {
  return wanted ? 'deliver' : 'skip';
}
