import type { Request } from 'express';
import { type Claims, CredentialError, verifyAccessToken } from '../access/token.ts';
import type { Context } from './context.ts';

/**
 * Who is asking: `Authorization: Bearer`, else the session cookie. A bad bearer token is refused even if there is a good
 * cookie: what the client said on purpose counts.
 * @throws CredentialError
 */
export async function authenticate(
  request: Request,
  context: Pick<Context, 'tokenRules' | 'sessionCookie'>,
): Promise<Claims> {
  const claims =
    (await authenticateBearer(request, context)) ?? context.sessionCookie.read(request.headers.cookie);
  if (claims === undefined) throw new CredentialError('unauthenticated', 'no credential');
  return claims;
}

/**
 * @returns undefined if there is no Authorization header
 * @throws CredentialError
 */
export async function authenticateBearer(
  { headers }: Request,
  { tokenRules }: Pick<Context, 'tokenRules'>,
): Promise<Claims | undefined> {
  if (headers.authorization === undefined) return undefined;
  const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(headers.authorization)?.[1];
  if (token === undefined)
    throw new CredentialError('unauthenticated', 'the Authorization header is not a bearer token');
  return verifyAccessToken(token, tokenRules);
}
