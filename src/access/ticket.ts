import { OwnTokens } from './own-token.ts';
import { type Claims, CredentialError } from './token.ts';

/** Who may open streams with a ticket, and of which topics; null: of whatever they may see. */
export interface Ticket {
  readonly claims: Claims;
  readonly topics: readonly string[] | null;
}

/**
 * Tickets: for clients that can send neither headers nor our cookie. Since they are in URLs, they open streams and nothing else,
 * and only for a short time; what they open ends with the credential that they came from, not with them. Until they end they may
 * be used again, as a client that is cut off while it connects will.
 */
export class Tickets {
  readonly #tokens: OwnTokens;
  readonly #lifetimeSeconds: number;

  /** @param secrets as for {@link OwnTokens} */
  constructor(secrets: readonly [string, ...string[]], lifetimeSeconds: number, now: () => number) {
    this.#tokens = new OwnTokens('ticket', secrets, now);
    this.#lifetimeSeconds = lifetimeSeconds;
  }

  /** @returns the ticket and when it ends, in seconds since 1970 */
  issue({ claims, topics }: Ticket): { token: string; expiresAt: number } {
    return this.#tokens.issue(claims, this.#lifetimeSeconds, { topics });
  }

  /** @throws CredentialError */
  read(token: string): Ticket {
    const { claims, content } = this.#tokens.read(token);
    const topics: unknown = content['topics'];
    if (topics !== null && !(Array.isArray(topics) && topics.every((topic) => typeof topic === 'string')))
      throw new CredentialError('unauthenticated', 'the ticket does not say what it is for');
    return { claims, topics };
  }
}
