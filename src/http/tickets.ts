import express, { type Request, type RequestHandler, type Response } from 'express';
import { z } from 'zod';
import { maySee } from '../access/actor.ts';
import { CredentialError } from '../access/token.ts';
import { authenticateBearer } from './authenticate.ts';
import type { Context } from './context.ts';
import { Problem } from './errors.ts';
import { parseTopics } from './topics.ts';

/** Of a ticket, in characters: with it a URL stays below 8 KB, which is what proxies take. */
const TICKET_LIMIT = 7000;

// Unknown keys are refused: a `topic` in place of `topics` would be a ticket for everything.
const body = z.strictObject({ topics: z.array(z.string()).min(1).optional() }).optional();

/** `POST /v1/tickets`: a bearer token becomes a ticket, for clients that can send neither headers nor our cookie. */
export function ticketsRoute(context: Context): RequestHandler {
  // Whatever its Content-Type says: a body that is not looked at would be a ticket for everything as well.
  const parseBody = express.json({ limit: context.config.maxBodyBytes, type: () => true, inflate: false });
  return async (request, response) => {
    const claims = await authenticateBearer(request, context);
    if (claims === undefined) throw new CredentialError('unauthenticated', 'no bearer token');
    await context.rateLimits.byActor('sessions', request, response, claims);
    const topics = await requestedTopics(request, response, parseBody, context);
    const membership = await context.lookUpMembership(context.pool, claims, context.hub.cursor);
    if (!maySee(membership, topics ?? [])) throw new Problem('forbidden');
    const { token, expiresAt } = context.tickets.issue({ claims, topics });
    if (token.length > TICKET_LIMIT)
      throw new Problem('too_many_topics', 'A ticket for so many topics would not fit into a URL.');
    response.setHeader('Cache-Control', 'no-store');
    response.json({ ticket: token, expiresAt: new Date(expiresAt * 1000).toISOString() });
  };
}

/** @throws Problem, TopicError, or what the body parser throws */
async function requestedTopics(
  request: Request,
  response: Response,
  parseBody: RequestHandler,
  { config }: Pick<Context, 'config'>,
): Promise<readonly string[] | null> {
  await new Promise<void>((resolve, reject) => {
    parseBody(request, response, (error?: unknown) => (error === undefined ? resolve() : reject(error)));
  });
  const parsed = body.safeParse(request.body);
  if (!parsed.success) throw new Problem('bad_request', 'The body is {"topics":["kind:key",…]}, or nothing.');
  const { topics } = parsed.data ?? {};
  return topics === undefined ? null : parseTopics(topics, config);
}
