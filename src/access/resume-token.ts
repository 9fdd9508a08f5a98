import { createHash } from 'node:crypto';
import type { Actor, Membership } from './actor.ts';
import { OwnTokens } from './own-token.ts';
import { type Claims, CredentialError } from './token.ts';

/** What a stream was let in with, so that its client can come back without being looked up. */
export interface Resume {
  readonly claims: Claims;
  /** Who that was, as the database knew them. */
  readonly actor: Pick<Actor, 'userId' | 'walletAddress' | 'role'>;
  readonly seesAll: Membership['seesAll'];
  readonly own: Membership['own'];
  /** Where that credential's revocation would be announced. */
  readonly credentialTopics: readonly string[];
  /** The history that `asOf` belongs to. */
  readonly epoch: string;
  /** The digest of the topics that were asked for, as {@link digestOf} makes it. */
  readonly topics: string;
  /** The actor could see all of these topics, but for what access events after this id say. */
  readonly asOf: number;
}

/** Resume tokens: sent in `session`, taken as `?resume=`. */
export class ResumeTokens {
  readonly #tokens: OwnTokens;
  readonly #lifetimeSeconds: number;

  /** @param secrets as for {@link OwnTokens} */
  constructor(secrets: readonly [string, ...string[]], lifetimeSeconds: number, now: () => number) {
    this.#tokens = new OwnTokens('resume', secrets, now);
    this.#lifetimeSeconds = lifetimeSeconds;
  }

  /** @returns the token and when it ends, in seconds since 1970 */
  issue({ claims, ...resume }: Resume): { token: string; expiresAt: number } {
    return this.#tokens.issue(claims, this.#lifetimeSeconds, { resume });
  }

  /** @throws CredentialError */
  read(token: string): Resume {
    const { claims, content } = this.#tokens.read(token);
    // Only we can have signed it, but perhaps a version of us that said it otherwise.
    const { actor, seesAll, own, credentialTopics, epoch, topics, asOf }: Partial<Resume> =
      content['resume'] ?? {};
    if (
      typeof actor !== 'object' ||
      typeof seesAll !== 'boolean' ||
      !Array.isArray(own) ||
      !Array.isArray(credentialTopics) ||
      typeof epoch !== 'string' ||
      typeof topics !== 'string' ||
      !isId(asOf)
    )
      throw new CredentialError('unauthenticated', 'the resume token does not say what it is for');
    return { claims, actor, seesAll, own, credentialTopics, epoch, topics, asOf };
  }
}

function isId(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

/**
 * The topics of a stream in few bytes: a URL must stay short.
 * @param named in their normal form; undefined for a feed
 */
export function digestOf(named: readonly string[] | undefined): string {
  if (named === undefined) return 'feed';
  return createHash('sha256')
    .update([...named].toSorted().join('\n'))
    .digest('base64url');
}
