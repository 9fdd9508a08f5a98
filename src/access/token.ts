import { createSecretKey, type KeyObject } from 'node:crypto';
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

/** Public keys of whoever issues the tokens. */
export interface IssuerKeys {
  /**
   * @param kid null for a token that names no key
   * @returns undefined if there is no such key
   * @throws KeysUnavailableError if that cannot be known at the moment
   */
  find(algorithm: PublicAlgorithm, kid: string | null): Promise<KeyObject | undefined>;
}

/** The issuer's keys cannot be had, so nobody can tell whether a credential is good. */
export class KeysUnavailableError extends Error {
  override readonly name = 'KeysUnavailableError';
}

/** A {@link JwtSecret} as a key: made once, for what a text costs to become one at each token is most of what a token costs. */
export interface SecretKey {
  readonly kid: string | null;
  readonly key: KeyObject;
}

export interface TokenRules {
  readonly secrets: readonly SecretKey[];
  /** Null where there is no JWKS. */
  readonly issuerKeys: IssuerKeys | null;
  readonly issuer: string | null;
  readonly audience: string | null;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

export function toSecretKey({ kid, secret }: JwtSecret): SecretKey {
  return { kid, key: createSecretKey(secret, 'utf8') };
}

/** What an issuer may sign with: the kind of key decides which, never the token. */
export type PublicAlgorithm = 'RS256' | 'ES256';

/** Clocks of different machines differ; allowed for `nbf` and `iat`, never for `exp`. */
const TOLERANCE_SECONDS = 5;
/** Longest `jti` and `role`, in characters: they are in cookies and URLs of ours as well. */
const LONGEST_TOKEN_ID = 256;
const LONGEST_ROLE = 64;
/** The last second of JavaScript's dates. */
const LAST_SECOND = 8.64e12;

/**
 * Checks an access token (RFC 7519, and RFC 8725 on what to beware of): HS256 with our secrets, RS256 or ES256 with the issuer's
 * keys, each by `kid` and with no other algorithm than the key is for; `iss` and `aud` where configured; `exp` required; `type`,
 * if present, `access`. Keys that a token brings along (`jwk`, `jku`, `x5c`) are not looked at.
 * @throws CredentialError, KeysUnavailableError
 */
export async function verifyAccessToken(token: string, rules: TokenRules): Promise<Claims> {
  const { issuer, audience, now } = rules;
  const { algorithm, kid } = headerOf(token);
  const key = algorithm === 'HS256' ? secretOf(kid, rules) : await rules.issuerKeys?.find(algorithm, kid);
  if (key === undefined) throw new CredentialError('unauthenticated', 'the kid of the token is not known');
  const claims = verifySigned(token, key, {
    algorithms: [algorithm],
    clockTimestamp: Math.floor(now() / 1000),
    ...(issuer === null ? {} : { issuer }),
    ...(audience === null ? {} : { audience }),
  });
  if (claims['type'] !== undefined && claims['type'] !== 'access') {
    throw new CredentialError('unauthenticated', 'the token is not an access token');
  }
  return toClaims(claims, now);
}

/** What an unchecked token says that it is signed with. */
function headerOf(token: string): { algorithm: 'HS256' | PublicAlgorithm; kid: string | null } {
  const { alg, kid, crit } = decode(token);
  if (alg !== 'HS256' && alg !== 'RS256' && alg !== 'ES256')
    throw new CredentialError('unauthenticated', 'the algorithm of the token is none of ours');
  // RFC 7515, 4.1.11: who does not understand what is critical must refuse. We understand nothing of it.
  if (crit !== undefined)
    throw new CredentialError('unauthenticated', 'the token asks for more than we know');
  if (kid !== undefined && typeof kid !== 'string')
    throw new CredentialError('unauthenticated', 'the kid of the token is no text');
  return { algorithm: alg, kid: kid ?? null };
}

function decode(token: string): Record<string, unknown> {
  try {
    return { ...jwt.decode(token, { complete: true })?.header };
  } catch {
    return {};
  }
}

/** A token without a kid is checked with the secret without one; with a single secret its name does not matter. */
function secretOf(kid: string | null, { secrets }: TokenRules): KeyObject | undefined {
  const secret =
    secrets.find((candidate) => candidate.kid === kid) ??
    (kid === null && secrets.length === 1 ? secrets[0] : undefined);
  return secret?.key;
}

/**
 * Checks the signature, `nbf`, and what `options` ask for; everything but the meaning of the claims.
 * @param options `algorithms` names the only one that the key is for
 * @throws CredentialError
 */
export function verifySigned(
  token: string,
  key: KeyObject,
  options: jwt.VerifyOptions & { algorithms: readonly [jwt.Algorithm] },
): jwt.JwtPayload {
  try {
    const claims = jwt.verify(token, key, {
      ...options,
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
 * The claims that we read, with `exp` checked to the second. A wallet address or role that is none is left out; without a subject that
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
    role: typeof role === 'string' && role.length <= LONGEST_ROLE ? role : null,
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
