import type { Request, RequestHandler } from 'express';
import { type Membership, maySee } from '../access/actor.ts';
import type { ResetReason } from '../hub/disconnect-reason.ts';
import type { Hub } from '../hub/hub.ts';
import { endsSessions } from '../outbox/access-change.ts';
import { type Queryable, readLastId } from '../outbox/reader.ts';
import type { Reset } from '../sse/frame.ts';
import { authenticate } from './authenticate.ts';
import type { Context } from './context.ts';
import { Problem } from './errors.ts';
import { Refusal } from './refusal.ts';

/** `GET /v1/cursor`: where a stream would start now, and the oldest cursor that can be replayed from. */
export function cursorRoute(context: Context): RequestHandler {
  const { hub, pool } = context;
  return async (request, response) => {
    const claims = await authenticate(request, context);
    const condition = context.condition();
    if (condition !== 'ready') throw new Refusal(condition);
    await context.rateLimits.byActor('snapshots', request, response, claims);
    if (!maySee(await context.lookUpMembership(pool, claims, hub.cursor), [])) throw new Problem('forbidden');
    response.setHeader('Cache-Control', 'no-store');
    response.json({ cursor: hub.cursor, oldest: hub.history.oldest, epoch: hub.history.epoch });
  };
}

/** What a client says it has: the id of an event, nothing, or something that is no cursor. */
export type Requested = number | 'none' | 'invalid';

const CURSOR = /^(0|[1-9]\d{0,14})$/;

/**
 * The cursor that a request names: header `Last-Event-ID`, else query `lastEventId`. A bad header is not refused: that would
 * stop a native `EventSource` for good.
 * @throws Problem invalid_cursor for a bad query parameter
 */
export function requestedCursor({ headers, query }: Request): Requested {
  const header = headers['last-event-id'];
  if (typeof header === 'string' && header !== '') return CURSOR.test(header) ? Number(header) : 'invalid';
  const parameter = query['lastEventId'];
  if (parameter === undefined || parameter === '') return 'none';
  if (typeof parameter !== 'string' || !CURSOR.test(parameter)) throw new Problem('invalid_cursor');
  return Number(parameter);
}

/** Where a stream starts, and what the client must be told if that is not where it asked for. */
export interface Start {
  readonly cursor: number;
  readonly reset?: Reset;
}

/**
 * Fixes the start cursor. A cursor beyond this process's relay may be another instance's, so it is compared with the
 * sequence itself, freshly read, before it is called ahead.
 */
export async function startCursor(requested: Requested, hub: Hub, db: Queryable): Promise<Start> {
  if (requested === 'none') return { cursor: hub.cursor };
  if (requested === 'invalid') return resetTo('invalid', null, hub);
  if (requested < hub.history.firstId) return resetTo('epoch', requested, hub);
  if (requested < hub.history.oldest) return resetTo('expired', requested, hub);
  if (requested > hub.cursor && requested > (await readLastId(db))) return resetTo('ahead', requested, hub);
  return { cursor: requested };
}

/** Where a stream starts, and for what access. */
export interface Beginning {
  readonly start: Start;
  /** The cursor as of which `membership` tells what the actor could see, at or below the start. */
  readonly from: number;
  /** The hub's cursor before the membership was read. */
  readonly asOf: number;
  readonly membership: Membership;
}

/**
 * If who the actor is has changed after the start, then what they may see now says nothing about what they could see then: the
 * past is neither given to the new identity nor kept from the old one, and the stream starts behind the change instead.
 */
export function pastIdentityChange(beginning: Beginning, requested: Requested, oldest: number): Beginning {
  const { start, asOf, membership } = beginning;
  const last = membership.changes.findLast((change) => change.id > start.cursor && endsSessions(change));
  if (last === undefined) return beginning;
  const cursor = Math.max(last.id, asOf);
  const reset: Reset | undefined =
    start.reset ??
    (typeof requested === 'number' ? { reason: 'identity', requested, oldest, cursor } : undefined);
  return {
    start: reset === undefined ? { cursor } : { cursor, reset: { ...reset, cursor } },
    from: asOf,
    asOf,
    membership: { ...membership, changes: membership.changes.filter(({ id }) => id > asOf) },
  };
}

function resetTo(reason: ResetReason, requested: number | null, { cursor, history: { oldest } }: Hub): Start {
  return { cursor, reset: { reason, requested, oldest, cursor } };
}
