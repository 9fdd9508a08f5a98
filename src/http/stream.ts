import type { Response } from 'express';
import { type Membership, topicsAtCursor } from '../access/actor.ts';
import type { Claims } from '../access/token.ts';
import type { DisconnectReason } from '../hub/disconnect-reason.ts';
import { Subscriber } from '../hub/subscriber.ts';
import { Subscription } from '../hub/subscription.ts';
import { Connection } from '../sse/connection.ts';
import { resetFrame } from '../sse/frame.ts';
import { type Context, jitteredRetryMs } from './context.ts';
import type { Beginning } from './cursor.ts';
import { requestIdOf } from './request-log.ts';
import { SessionBlock } from './session-block.ts';

/** Who has been let in, to what, from where. */
export interface Admission extends Beginning {
  readonly claims: Claims;
  /** The topics asked for by name, of which the actor may see all; undefined for a feed. */
  readonly named: readonly string[] | undefined;
  /** Gives back the stream's place among the connections; called when it has closed. */
  readonly release: () => void;
}

/** Makes a subscriber of a response whose head has been written. */
export function openStream(context: Context, response: Response, admission: Admission): void {
  const { config, hub, log, metrics } = context;
  const { claims, start, from, asOf, membership, named, release } = admission;
  const subscription = subscriptionOf(membership, named);
  const timers: NodeJS.Timeout[] = [];
  const requestId = requestIdOf(response);
  let ended: DisconnectReason | undefined;
  const connection = new Connection(response, {
    stallMs: config.stallSeconds * 1000,
    onClose: (stalled) => {
      release();
      unlist();
      for (const timer of timers) clearTimeout(timer);
      if (stalled) metrics.disconnected('slow_consumer');
      const reason = stalled ? 'slow_consumer' : (ended ?? 'client');
      log.info({ requestId, reason, cursor: subscriber.cursor }, 'stream closed');
      subscriber.closed();
    },
  });
  const subscriber = new Subscriber({
    hub,
    sink: connection,
    subscription,
    cursor: from,
    has: start.cursor,
    pages: context.pages,
    bufferBytes: config.subscriberBufferBytes,
    retryMs: () => jitteredRetryMs(context),
    onEnd: (reason) => {
      ended = reason;
      metrics.disconnected(reason);
    },
    onReplayError: (error) => log.warn({ err: error, requestId }, 'replay failed'),
  });
  const unlist = context.openStreams.add({
    subscriber,
    subscription,
    actor: membership.actor,
    address: response.req.ip ?? '',
    since: context.now(),
  });
  const session = new SessionBlock(context, { claims, membership, named, subscription });
  connection.write(session.encode(start.cursor, asOf));
  if (start.reset !== undefined) {
    metrics.reset(start.reset.reason);
    connection.write(resetFrame(start.reset));
  }
  timers.push(
    setInterval(() => {
      subscriber.heartbeat();
      if (subscriber.state === 'live' && session.isDue)
        connection.write(session.encode(Math.max(start.cursor, hub.cursor), hub.cursor));
    }, config.heartbeatSeconds * 1000),
    deadline(context, claims, subscriber),
  );
  metrics.connected();
  log.info({ requestId, cursor: start.cursor, topics: named?.length ?? 'feed' }, 'stream opened');
  subscriber.start();
}

function subscriptionOf(membership: Membership, named: readonly string[] | undefined): Subscription {
  const atCursor = topicsAtCursor(membership);
  return new Subscription({
    ...(named === undefined
      ? { mode: membership.seesAll ? 'all' : 'feed', topics: atCursor }
      : membership.seesAll
        ? { mode: 'fixed', topics: named }
        : { mode: 'named', topics: named.filter((topic) => atCursor.has(topic)) }),
    named: named ?? [],
    own: membership.own,
    known: membership.changes.map(({ id }) => id),
    credential: membership.credential,
  });
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
