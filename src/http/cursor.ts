import type { Request } from 'express';
import type { ResetReason } from '../hub/disconnect-reason.ts';
import type { Hub } from '../hub/hub.ts';
import { type Queryable, readLastId } from '../outbox/reader.ts';
import type { Reset } from '../sse/frame.ts';
import { Problem } from './errors.ts';

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

function resetTo(reason: ResetReason, requested: number | null, { cursor, history: { oldest } }: Hub): Start {
  return { cursor, reset: { reason, requested, oldest, cursor } };
}
