import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { Jwks } from './jwks.ts';
import { ResumeTokens } from './resume-token.ts';
import { SessionCookie } from './session-cookie.ts';
import { Tickets } from './ticket.ts';
import { type IssuerKeys, type TokenRules, toSecretKey } from './token.ts';

/** Everything that tells who is asking. */
export interface Credentials {
  readonly tokenRules: TokenRules;
  readonly sessionCookie: SessionCookie;
  readonly tickets: Tickets;
  readonly resumeTokens: ResumeTokens;
}

/**
 * @param issuerKeys null where there is no JWKS
 * @param now milliseconds since 1970
 */
export function createCredentials(
  config: Config,
  issuerKeys: IssuerKeys | null,
  now: () => number,
): Credentials {
  const { jwtSecrets, jwtIssuer, jwtAudience, signingSecrets } = config;
  return {
    tokenRules: {
      secrets: jwtSecrets.map(toSecretKey),
      issuerKeys,
      issuer: jwtIssuer,
      audience: jwtAudience,
      now,
    },
    sessionCookie: new SessionCookie(signingSecrets, config.cookieSameSite, now),
    tickets: new Tickets(signingSecrets, config.ticketSeconds, now),
    resumeTokens: new ResumeTokens(signingSecrets, config.resumeSeconds, now),
  };
}

/** The issuer's keys, not yet fetched; null where there is no JWKS_URL. */
export function createJwks(config: Config, log: Logger): Jwks | null {
  if (config.jwksUrl === null) return null;
  return new Jwks({
    url: config.jwksUrl,
    cacheMs: config.jwksCacheSeconds * 1000,
    cooldownMs: config.jwksCooldownSeconds * 1000,
    timeoutMs: config.jwksTimeoutSeconds * 1000,
    clock: () => performance.now(),
    onFailure: (error) => log.warn({ err: error }, 'no keys from JWKS_URL; the last good ones stay'),
  });
}
