import { parseCookie, stringifySetCookie } from 'cookie';
import { OwnTokens } from './own-token.ts';
import type { Claims } from './token.ts';

/** Native `EventSource` sends no header of ours, but it sends cookies. */
const NAME = 'settlewire_session';

/** How the cookie travels: over TLS, or over plain http on loopback. */
export interface Transport {
  readonly secure: boolean;
}

/**
 * The session cookie: the claims of an access token under a key of our own. Over TLS its name has the prefix `__Host-`, which
 * browsers let nobody but this host set, and not over plain http (RFC 6265bis, 4.1.3.2); no other name counts there.
 */
export class SessionCookie {
  readonly #tokens: OwnTokens;
  readonly #sameSite: 'strict' | 'lax' | 'none';
  readonly #now: () => number;

  /** @param secrets as for {@link OwnTokens} */
  constructor(
    secrets: readonly [string, ...string[]],
    sameSite: 'strict' | 'lax' | 'none',
    now: () => number,
  ) {
    this.#tokens = new OwnTokens('session', secrets, now);
    this.#sameSite = sameSite;
    this.#now = now;
  }

  /** `Set-Cookie` for a session that lasts as long as the credential it came from. */
  issue(claims: Claims, transport: Transport): string {
    const maxAge = Math.max(0, Math.floor(claims.expiresAt - this.#now() / 1000));
    return this.#setCookie(this.#tokens.issue(claims).token, maxAge, transport);
  }

  /** `Set-Cookie` that ends the session. */
  clear(transport: Transport): string {
    return this.#setCookie('', 0, transport);
  }

  /**
   * @param header the request's Cookie header
   * @returns undefined if there is no session cookie
   * @throws CredentialError if there is one that is not valid
   */
  read(header: string | undefined, { secure }: Transport): Claims | undefined {
    const value = parseCookie(header ?? '')[cookieName(secure)];
    if (value === undefined || value === '') return undefined;
    return this.#tokens.read(value).claims;
  }

  #setCookie(value: string, maxAge: number, { secure }: Transport): string {
    return stringifySetCookie(cookieName(secure), value, {
      httpOnly: true,
      // Browsers drop None without Secure; pages of other ports on loopback are of the same site anyway.
      sameSite: this.#sameSite === 'none' && !secure ? 'lax' : this.#sameSite,
      path: '/',
      maxAge,
      secure,
    });
  }
}

/** What the cookie is called over TLS, and without, on loopback. */
export function cookieName(secure: boolean): string {
  return secure ? `__Host-${NAME}` : NAME;
}
