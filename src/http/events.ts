import type { Request, RequestHandler, Response } from 'express';
import { lookUpMembership, type Membership, maySee, topicsAtCursor } from '../access/actor.ts';
import type { Claims } from '../access/token.ts';
import { parseTopic } from '../access/topics.ts';
import type { DisconnectReason } from '../hub/disconnect-reason.ts';
import { Subscriber } from '../hub/subscriber.ts';
import { Subscription } from '../hub/subscription.ts';
import { Connection, streamHeaders } from '../sse/connection.ts';
import { resetFrame, sessionFrame } from '../sse/frame.ts';
import { acceptsStream } from './accept.ts';
import { authenticate } from './authenticate.ts';
import { type Context, jitteredRetryMs } from './context.ts';
import { requestedCursor, type Start, startCursor } from './cursor.ts';
import { Problem } from './errors.ts';
import { Refusal } from './refusal.ts';
import { namedTopics } from './topics.ts';

/** Most topics that `session` lists. */
const LISTED_TOPICS = 100;

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
  const claims = authenticate(request, context);
  const named = topics();
  const requested = requestedCursor(request);
  const before = context.condition();
  if (before !== 'ready') throw new Refusal(before);
  await context.rateLimits.byActor('connects', request, response, claims);

  let start: Start;
  let membership: Membership;
  try {
    // In this order: what changes after the cursor is fixed is in the stream, whether membership already shows it or not.
    start = await startCursor(requested, context.hub, context.pool);
    membership = await lookUpMembership(context.pool, claims, start.cursor);
  } catch (error) {
    context.log.warn({ err: error }, 'subscribe: the database did not answer');
    throw new Refusal('unavailable');
  }
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
  response.once('close', release);
  response.writeHead(200, streamHeaders(start.cursor));
  subscribe(context, response, { claims, start, membership, named });
}

function subscribe(
  context: Context,
  response: Response,
  {
    claims,
    start,
    membership,
    named,
  }: { claims: Claims; start: Start; membership: Membership; named: string[] | undefined },
): void {
  const { config, hub, metrics } = context;
  const atCursor = topicsAtCursor(membership);
  const subscription = new Subscription({
    ...(named === undefined
      ? { mode: membership.seesAll ? 'all' : 'feed', topics: atCursor }
      : membership.seesAll
        ? { mode: 'fixed', topics: named }
        : { mode: 'named', topics: named.filter((topic) => atCursor.has(topic)) }),
    named: named ?? [],
    own: membership.own,
    known: membership.changes.map(({ id }) => id),
  });
  const timers: NodeJS.Timeout[] = [];
  const connection = new Connection(response, {
    stallMs: config.stallSeconds * 1000,
    onClose: (stalled) => {
      for (const timer of timers) clearTimeout(timer);
      if (stalled) metrics.disconnected('slow_consumer');
      subscriber.closed();
    },
  });
  const subscriber = new Subscriber({
    hub,
    sink: connection,
    subscription,
    cursor: start.cursor,
    replay: context.replay,
    bufferBytes: config.subscriberBufferBytes,
    retryMs: () => jitteredRetryMs(context),
    onEnd: (reason) => metrics.disconnected(reason),
    onReplayError: (error) => context.log.warn({ err: error }, 'replay failed'),
  });
  const session = {
    cursor: start.cursor,
    epoch: hub.history.epoch,
    topics: named?.slice(0, LISTED_TOPICS) ?? subscription.list(LISTED_TOPICS),
    heartbeatSeconds: config.heartbeatSeconds,
    expiresAt: new Date(claims.expiresAt * 1000).toISOString(),
  };
  connection.write(sessionFrame(session, jitteredRetryMs(context)));
  if (start.reset !== undefined) {
    metrics.reset(start.reset.reason);
    connection.write(resetFrame(start.reset));
  }
  timers.push(
    setInterval(() => subscriber.heartbeat(), config.heartbeatSeconds * 1000),
    deadline(context, claims, subscriber),
  );
  metrics.connected();
  subscriber.start();
}

/** Ends the stream when its credential ends or when it is old, whichever comes first. Ages are jittered, so that what connected together does not reconnect together. */
function deadline(
  { config, now, random }: Context,
  { expiresAt }: Claims,
  subscriber: Subscriber,
): NodeJS.Timeout {
  const credentialMs = expiresAt * 1000 - now();
  const ageMs = config.maxConnectionAgeSeconds * 1000 * (0.9 + 0.2 * random());
  const reason: DisconnectReason = credentialMs <= ageMs ? 'token_expired' : 'max_age';
  return setTimeout(() => subscriber.end(reason), Math.min(credentialMs, ageMs));
}
