import jwt from 'jsonwebtoken';
import type { Config } from '../config.ts';

/** What a token that we issue ourselves says of its bearer. */
export interface MintedClaims {
  readonly sub: string;
  readonly walletAddress?: string;
  readonly role?: string;
  readonly jti?: string;
}

/**
 * An access token as another backend would issue it (HS256, `type` access, the configured issuer and audience): for the demo,
 * for `settlewire token`, for `settlewire verify`. The service itself never issues one.
 * @param kid names one of JWT_SECRETS; left out: the first key that is configured
 * @returns undefined if there is no such key
 */
export function mintAccessToken(
  claims: MintedClaims,
  expiresInSeconds: number,
  { jwtSecrets, jwtIssuer, jwtAudience }: Pick<Config, 'jwtSecrets' | 'jwtIssuer' | 'jwtAudience'>,
  kid?: string,
): string | undefined {
  const key = kid === undefined ? jwtSecrets[0] : jwtSecrets.find((candidate) => candidate.kid === kid);
  if (key === undefined) return undefined;
  return jwt.sign({ ...claims, type: 'access' }, key.secret, {
    algorithm: 'HS256',
    expiresIn: expiresInSeconds,
    ...(key.kid === null ? {} : { keyid: key.kid }),
    ...(jwtIssuer === null ? {} : { issuer: jwtIssuer }),
    ...(jwtAudience === null ? {} : { audience: jwtAudience }),
  });
}
