import { createHash, timingSafeEqual } from 'node:crypto';
import type { RequestHandler } from 'express';
import { CredentialError } from '../access/token.ts';
import { Problem } from '../http/errors.ts';
import { isLoopback } from '../variables.ts';

/**
 * Lets operators in: with the token, if there is one. Without one the port is on loopback, where a browser on the same machine
 * must not be a way in: pages elsewhere name their origin, or, having made their own name point here, that name as the host.
 */
export function adminGuard(token: string | null): RequestHandler {
  if (token === null)
    return ({ headers }, _response, next) => {
      if (headers.origin !== undefined || !isLoopback(headers.host ?? '')) throw new Problem('forbidden');
      next();
    };
  const expected = digest(token);
  return ({ headers }, _response, next) => {
    const given = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1] ?? '';
    if (!timingSafeEqual(digest(given), expected))
      throw new CredentialError('unauthenticated', 'the admin port needs its bearer token');
    next();
  };
}

/** Of one length, whatever the text: comparing takes the same time for all. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
