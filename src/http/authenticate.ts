import type { Request } from 'express';
import { type Claims, CredentialError, KeysUnavailableError, verifyAccessToken } from '../access/token.ts';
import type { Context } from './context.ts';
import { isOwnPage, isSecure } from './origin.ts';
import { Refusal } from './refusal.ts';

type CredentialContext = Pick<Context, 'config' | 'tokenRules' | 'sessionCookie'>;

/**
 * Who is asking: `Authorization: Bearer`, else the session cookie. A bad bearer token is refused even if there is a good
 * cookie: what the client said on purpose counts.
 * @throws CredentialError; Refusal unavailable if the issuer's keys cannot be had
 */
export async function authenticate(request: Request, context: CredentialContext): Promise<Claims> {
  const claims = (await authenticateBearer(request, context)) ?? readCookie(request, context);
  if (claims === undefined) throw new CredentialError('unauthenticated', 'no credential');
  return claims;
}

/**
 * @returns undefined if there is no Authorization header
 * @throws as {@link authenticate}
 */
export async function authenticateBearer(
  { headers }: Request,
  { tokenRules }: Pick<Context, 'tokenRules'>,
): Promise<Claims | undefined> {
  if (headers.authorization === undefined) return undefined;
  const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(headers.authorization)?.[1];
  if (token === undefined)
    throw new CredentialError('unauthenticated', 'the Authorization header is not a bearer token');
  try {
    return await verifyAccessToken(token, tokenRules);
  } catch (error) {
    throw error instanceof KeysUnavailableError ? new Refusal('unavailable') : error;
  }
}

function readCookie(request: Request, { sessionCookie, config }: CredentialContext): Claims | undefined {
  const claims = sessionCookie.read(request.headers.cookie, { secure: isSecure(request) });
  if (claims !== undefined && !isOwnPage(request, config.corsOrigins))
    throw new CredentialError('unauthenticated', 'the cookie comes with the request of a foreign page');
  return claims;
}
