import type { Request, RequestHandler, Response } from 'express';
import { type Membership, maySee } from '../access/actor.ts';
import { digestOf } from '../access/resume-token.ts';
import { resumedMembership } from '../access/resumed-membership.ts';
import { CredentialError } from '../access/token.ts';
import { parseTopic } from '../access/topics.ts';
import { streamHeaders } from '../sse/connection.ts';
import { acceptsStream } from './accept.ts';
import { authenticateStream, type StreamCredential } from './authenticate.ts';
import type { Context } from './context.ts';
import { type Beginning, pastIdentityChange, requestedCursor, startCursor } from './cursor.ts';
import { Problem } from './errors.ts';
import { Refusal } from './refusal.ts';
import { requestIdOf } from './request-log.ts';
import { openStream } from './stream.ts';
import { namedTopics } from './topics.ts';

/** `GET /v1/events`: a stream of the topics in the query, or of everything that the actor may see. */
export function eventsRoute(context: Context): RequestHandler {
  return (request, response) => open(context, request, response, () => namedTopics(request, context.config));
}

/** `GET /v1/streams/{id}/events` and its like: the same for one topic, for curl. */
export function topicEventsRoute(context: Context, kind: 'stream' | 'escrow'): RequestHandler {
  return (request, response) =>
    open(context, request, response, () => [parseTopic(`${kind}:${request.params['id']}`)]);
}

async function open(
  context: Context,
  request: Request,
  response: Response,
  topics: () => string[] | undefined,
): Promise<void> {
  if (!acceptsStream(request)) throw new Problem('not_acceptable');
  const credential = await authenticateStream(request, context);
  const { claims } = credential;
  const named = topics() ?? credential.topics;
  const requested = requestedCursor(request);
  const before = context.condition();
  if (before !== 'ready') throw new Refusal(before);
  await context.rateLimits.byActor('connects', request, response, claims);
  if (!isFor(credential, named)) throw new Problem('forbidden');

  let beginning: Beginning;
  try {
    // In this order: what changes after the cursor is fixed is in the stream, whether membership already shows it or not.
    const start = await startCursor(requested, context.hub, context.pool);
    // A client that says that it is ahead gets nothing up to there, but what is taken from it up to there is.
    const head = context.hub.cursor;
    const from = Math.min(start.cursor, head);
    const membership =
      resumed(context, credential, named, from) ?? (await context.membershipQueue.lookUp(claims, from));
    beginning = pastIdentityChange(
      { start, from, asOf: head, membership },
      requested,
      context.hub.history.oldest,
    );
  } catch (error) {
    if (error instanceof CredentialError) throw error;
    const requestId = requestIdOf(response);
    context.log.warn({ err: error, requestId }, 'subscribe: the database did not answer');
    throw new Refusal('unavailable');
  }
  // A herd waits for its turn, perhaps for longer than a credential is worth something.
  if (claims.expiresAt * 1000 <= context.now())
    throw new CredentialError('token_expired', 'the token has expired');
  const { start, from, membership } = beginning;
  // Retention has passed the cursor just now, and may have taken changes of access with it: next time it is a reset.
  if (from < membership.oldest) throw new Refusal('unavailable');
  if (!maySee(membership, named ?? [])) throw new Problem('forbidden');
  const now = context.condition();
  if (now !== 'ready') throw new Refusal(now);
  if (response.destroyed) return;
  // Asked for behind another answer on one connection, a stream could neither begin nor notice when the connection goes.
  if (response.socket === null) throw new Refusal('too_many_connections');
  if (request.method === 'HEAD') {
    response.writeHead(200, streamHeaders(start.cursor)).end();
    return;
  }
  const release = context.connectionLimits.take(membership.own[0] ?? '');
  if (release === undefined) throw new Refusal('too_many_connections');
  response.writeHead(200, streamHeaders(start.cursor));
  openStream(context, response, { ...beginning, claims, named, release });
}

/** Whether the credential is for these topics, if it is not for all that its bearer may see. */
function isFor({ topics, resume }: StreamCredential, named: readonly string[] | undefined): boolean {
  if (resume !== undefined) return digestOf(named) === resume.topics;
  return topics === undefined || named?.every((topic) => topics.includes(topic)) === true;
}

/**
 * What the actor may see, from a resume token and the replay window.
 * @returns undefined if only the database can tell
 */
function resumed(
  { config, hub, metrics }: Context,
  { resume }: StreamCredential,
  named: readonly string[] | undefined,
  from: number,
): Membership | undefined {
  if (resume === undefined) return undefined;
  const { epoch, asOf } = resume;
  // What a function of the adopter's says may change without an access event, so it is asked each time.
  const isFollowed = config.authorizeFunction === null;
  const frames =
    !isFollowed || named === undefined || epoch !== hub.history.epoch || asOf > hub.cursor
      ? undefined
      : hub.window.accessAfter(Math.min(from, asOf));
  const membership = frames && resumedMembership(resume, named ?? [], from, frames);
  metrics.resumed(membership === undefined ? 'database' : 'window');
  return membership;
}
