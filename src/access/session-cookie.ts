import { hkdfSync } from 'node:crypto';
import { parseCookie, stringifySetCookie } from 'cookie';
import jwt from 'jsonwebtoken';
import { type Claims, toClaims, verify } from './token.ts';

/** Native `EventSource` sends no header of ours, but it sends cookies. */
export const COOKIE_NAME = 'settlewire_session';

const PURPOSE = 'settlewire session';

/**
 * The session cookie: the claims of an access token under a key of our own, never under the shared JWT secret, or another
 * backend would take the cookie's value for an access token.
 */
export class SessionCookie {
  readonly #key: Buffer;
  readonly #now: () => number;

  /** @param secret SIGNING_SECRET or, without one, the JWT secret; a key for this purpose alone is derived from it (HKDF, RFC 5869) */
  constructor(secret: string, now: () => number) {
    this.#key = Buffer.from(hkdfSync('sha256', secret, '', PURPOSE, 32));
    this.#now = now;
  }

  /** `Set-Cookie` for a session that lasts as long as the credential it came from. */
  issue(claims: Claims, { secure }: { secure: boolean }): string {
    const value = jwt.sign(
      {
        sub: claims.subject,
        walletAddress: claims.walletAddress,
        role: claims.role,
        // Names of our own: `iat` would be set to now where the credential has none, and outlive its revocation.
        tokenId: claims.tokenId,
        issuedAt: claims.issuedAt,
        exp: claims.expiresAt,
      },
      this.#key,
      { algorithm: 'HS256', audience: PURPOSE, noTimestamp: true },
    );
    const maxAge = Math.max(0, Math.floor(claims.expiresAt - this.#now() / 1000));
    return setCookie(value, maxAge, secure);
  }

  /** `Set-Cookie` that ends the session. */
  clear({ secure }: { secure: boolean }): string {
    return setCookie('', 0, secure);
  }

  /**
   * @param header the request's Cookie header
   * @returns undefined if there is no session cookie
   * @throws CredentialError if there is one that is not valid
   */
  read(header: string | undefined): Claims | undefined {
    const value = parseCookie(header ?? '')[COOKIE_NAME];
    if (value === undefined || value === '') return undefined;
    const { tokenId, issuedAt, ...claims } = verify(value, this.#key, {
      audience: PURPOSE,
      clockTimestamp: Math.floor(this.#now() / 1000),
    });
    return toClaims({ ...claims, jti: tokenId, iat: issuedAt }, this.#now);
  }
}

function setCookie(value: string, maxAge: number, secure: boolean): string {
  return stringifySetCookie(COOKIE_NAME, value, {
    httpOnly: true,
    sameSite: 'strict',
    path: '/',
    maxAge,
    secure,
  });
}
