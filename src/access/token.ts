import jwt from 'jsonwebtoken';
import type { JwtSecret } from '../variables.ts';
import { isKey } from './topics.ts';

/** Who a credential speaks for, as its issuer says it. */
export interface Claims {
  /** A user id (uuid) or a wallet address. */
  readonly subject: string;
  readonly walletAddress: string | null;
  readonly role: string | null;
  /** Its `jti`, by which it can be revoked; null if it has none. */
  readonly tokenId: string | null;
  /** Its `iat` in seconds since 1970, by which all earlier ones of its subject can be revoked; null if it does not say. */
  readonly issuedAt: number | null;
  /** Seconds since 1970; the credential is worth nothing from then on. */
  readonly expiresAt: number;
}

/** Why a credential is refused; both are answered with 401. */
export class CredentialError extends Error {
  override readonly name = 'CredentialError';
  constructor(
    readonly code: 'unauthenticated' | 'token_expired',
    message: string,
  ) {
    super(message);
  }
}

export interface TokenRules {
  readonly secrets: readonly JwtSecret[];
  readonly issuer: string | null;
  readonly audience: string | null;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** Clocks of different machines differ; allowed for `nbf` and `iat`, never for `exp`. */
const TOLERANCE_SECONDS = 5;
/** Longest `jti`, in characters. */
const LONGEST_TOKEN_ID = 256;
/** The last second of JavaScript's dates. */
const LAST_SECOND = 8.64e12;

/**
 * Checks an access token (RFC 7519): HS256 only, by `kid`; `iss` and `aud` where configured; `exp` required; `type`, if present, `access`.
 * @throws CredentialError
 */
export function verifyAccessToken(token: string, { secrets, issuer, audience, now }: TokenRules): Claims {
  const kid = keyIdOf(token);
  // A token without a kid is checked with the key without one; with a single key its name does not matter.
  const key =
    secrets.find((secret) => secret.kid === kid) ??
    (kid === null && secrets.length === 1 ? secrets[0] : undefined);
  if (key === undefined)
    throw new CredentialError('unauthenticated', 'the token is not a JWT, or its kid is not known');
  const claims = verify(token, key.secret, {
    clockTimestamp: Math.floor(now() / 1000),
    ...(issuer === null ? {} : { issuer }),
    ...(audience === null ? {} : { audience }),
  });
  if (claims['type'] !== undefined && claims['type'] !== 'access') {
    throw new CredentialError('unauthenticated', 'the token is not an access token');
  }
  return toClaims(claims, now);
}

/** The `kid` that an unchecked token names. */
function keyIdOf(token: string): string | null {
  try {
    return jwt.decode(token, { complete: true })?.header.kid ?? null;
  } catch {
    throw new CredentialError('unauthenticated', 'the token is not a JWT');
  }
}

/**
 * Checks the signature (HS256), `nbf`, and what `options` ask for; everything but the meaning of the claims.
 * @throws CredentialError
 */
export function verify(token: string, secret: string | Buffer, options: jwt.VerifyOptions): jwt.JwtPayload {
  try {
    const claims = jwt.verify(token, secret, {
      ...options,
      algorithms: ['HS256'],
      clockTolerance: TOLERANCE_SECONDS,
      ignoreExpiration: true,
      complete: false,
    });
    if (typeof claims === 'string') throw new CredentialError('unauthenticated', 'the token has no claims');
    return claims;
  } catch (error) {
    if (error instanceof CredentialError) throw error;
    throw new CredentialError(
      'unauthenticated',
      error instanceof Error ? error.message : 'the token is not valid',
    );
  }
}

/**
 * The claims that we read, with `exp` checked to the second. A wallet address that is none is left out; without a subject that
 * can be in the database a token speaks for nobody.
 * @throws CredentialError
 */
export function toClaims(claims: jwt.JwtPayload, now: () => number): Claims {
  const { sub, exp, iat, jti, walletAddress, role } = claims;
  if (typeof sub !== 'string' || !isKey(sub))
    throw new CredentialError('unauthenticated', "the token's sub is neither a user id nor a wallet address");
  if (typeof exp !== 'number' || exp > LAST_SECOND)
    throw new CredentialError('unauthenticated', 'the token has no exp, or one that is no date');
  if (exp * 1000 <= now()) throw new CredentialError('token_expired', 'the token has expired');
  if (typeof iat === 'number' && (iat - TOLERANCE_SECONDS) * 1000 > now()) {
    throw new CredentialError('unauthenticated', 'the token was issued in the future');
  }
  return {
    subject: sub,
    walletAddress: typeof walletAddress === 'string' && isKey(walletAddress) ? walletAddress : null,
    role: typeof role === 'string' ? role : null,
    tokenId: tokenIdOf(jti),
    issuedAt: typeof iat === 'number' ? iat : null,
    expiresAt: exp,
  };
}

/** A `jti` that nobody could name in a revocation would make its token one that cannot be revoked, so it is refused. */
function tokenIdOf(jti: unknown): string | null {
  if (jti === undefined || jti === null) return null;
  if (typeof jti === 'string' && jti !== '' && jti.length <= LONGEST_TOKEN_ID && !/\p{C}/u.test(jti))
    return jti;
  throw new CredentialError(
    'unauthenticated',
    `the token's jti is not a text of 1 to ${LONGEST_TOKEN_ID} characters`,
  );
}
