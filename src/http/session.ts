import type { RequestHandler } from 'express';
import { maySee } from '../access/actor.ts';
import { CredentialError } from '../access/token.ts';
import { authenticateBearer } from './authenticate.ts';
import type { Context } from './context.ts';
import { Problem } from './errors.ts';
import { isSecure } from './origin.ts';

/** `POST /v1/session`: a bearer token becomes an HttpOnly cookie, for native `EventSource` on the same site. */
export function openSessionRoute(context: Context): RequestHandler {
  return async (request, response) => {
    const claims = await authenticateBearer(request, context);
    if (claims === undefined) throw new CredentialError('unauthenticated', 'no bearer token');
    await context.rateLimits.byActor('sessions', request, response, claims);
    const membership = await context.lookUpMembership(context.pool, claims, context.hub.cursor);
    if (!maySee(membership, [])) throw new Problem('forbidden');
    const { userId, walletAddress, role } = membership.actor;
    response.setHeader('Set-Cookie', context.sessionCookie.issue(claims, { secure: isSecure(request) }));
    response.setHeader('Cache-Control', 'no-store');
    response.json({
      userId,
      walletAddress,
      role,
      expiresAt: new Date(claims.expiresAt * 1000).toISOString(),
    });
  };
}

/** `DELETE /v1/session`: the cookie's end. Needs no credential: it takes nothing from anybody else. */
export function closeSessionRoute(context: Context): RequestHandler {
  return (request, response) => {
    response.setHeader('Set-Cookie', context.sessionCookie.clear({ secure: isSecure(request) }));
    response.status(204).end();
  };
}
