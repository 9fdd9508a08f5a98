import { createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';
import jwt from 'jsonwebtoken';
import { type Claims, CredentialError, toClaims, verifySigned } from './token.ts';

/** What a token of our own is good for; it is good for nothing else. */
export type Purpose = 'session' | 'ticket' | 'resume';

/**
 * Tokens of our own, for one purpose. Each carries the claims of the credential that it came from and is worth nothing once that
 * has ended or is revoked. They are signed with a key for this purpose alone (HKDF, RFC 5869), never with the shared JWT secret,
 * or another backend would take them for access tokens; the purpose is their audience as well.
 */
export class OwnTokens {
  readonly #keys: readonly KeyObject[];
  readonly #audience: string;
  readonly #now: () => number;

  /**
   * @param secrets signed with the first, accepted of all, so that secrets can be changed without downtime
   * @param now milliseconds since 1970
   */
  constructor(purpose: Purpose, secrets: readonly [string, ...string[]], now: () => number) {
    this.#audience = `settlewire ${purpose}`;
    this.#keys = secrets.map((secret) =>
      createSecretKey(Buffer.from(hkdfSync('sha256', secret, '', this.#audience, 32))),
    );
    this.#now = now;
  }

  /**
   * @param lifetimeSeconds it ends then, or with the credential if that is earlier
   * @param content what it says besides
   */
  issue(
    claims: Claims,
    lifetimeSeconds = Number.POSITIVE_INFINITY,
    content: object = {},
  ): { token: string; expiresAt: number } {
    const expiresAt = Math.min(claims.expiresAt, Math.floor(this.#now() / 1000) + lifetimeSeconds);
    const token = jwt.sign({ ...content, claims, exp: expiresAt }, this.#keys[0] as KeyObject, {
      algorithm: 'HS256',
      audience: this.#audience,
      noTimestamp: true,
    });
    return { token, expiresAt };
  }

  /**
   * @returns the claims of the credential that the token came from, and what else it says
   * @throws CredentialError
   */
  read(token: string): { claims: Claims; content: jwt.JwtPayload } {
    const { claims, ...content } = this.#verify(token);
    if (typeof content.exp !== 'number' || content.exp * 1000 <= this.#now())
      throw new CredentialError('token_expired', 'the token has expired');
    const { subject: sub, tokenId: jti, issuedAt: iat, expiresAt: exp, walletAddress, role } = claims ?? {};
    return { claims: toClaims({ sub, jti, iat, exp, walletAddress, role }, this.#now), content };
  }

  #verify(token: string): jwt.JwtPayload {
    let refusal: unknown;
    for (const key of this.#keys) {
      try {
        return verifySigned(token, key, {
          algorithms: ['HS256'],
          audience: this.#audience,
          clockTimestamp: Math.floor(this.#now() / 1000),
        });
      } catch (error) {
        refusal = error;
      }
    }
    throw refusal;
  }
}
