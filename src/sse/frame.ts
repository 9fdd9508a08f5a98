import type { DisconnectReason, ResetReason } from '../hub/disconnect-reason.ts';
import { type AccessChange, accessChange } from '../outbox/access-change.ts';
import type { OutboxEvent } from '../outbox/event.ts';
import { Chunk } from './chunk.ts';

/*
 * Bytes on the wire (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream).
 *
 * `id` is the last field of a block: a popular client takes the id as soon as it reads the line, and a stream that is cut inside
 * a block must not move its cursor past an event that it never got. Every block has data, because another popular client hands a
 * block without data to the application as an empty message. `session`, `reset` and `disconnect` carry no id: they are not events.
 */

/** An event with the bytes that every subscriber of its topic gets. */
export interface Frame {
  readonly id: number;
  readonly topic: string;
  readonly chunk: Chunk;
  readonly access?: AccessChange;
}

/** Nobody's data: a comment that keeps the connection open. A line and no more: an empty line after it would be a block without data. */
export const HEARTBEAT = Chunk.of(':\n');

/** Encodes an event once, for all its subscribers. */
export function encodeEvent(event: OutboxEvent): Frame {
  return frameOf(event, Chunk.of(blockOf(event)));
}

/** Encodes a page of the past as one: whoever gets all of it gets the bytes made here. */
export function encodePage(events: readonly OutboxEvent[]): Frame[] {
  const chunks = Chunk.each(events.map(blockOf));
  return events.map((event, index) => frameOf(event, chunks[index] as Chunk));
}

function blockOf({ id, type, data }: OutboxEvent): string {
  return `event: ${type}\ndata: ${data}\nid: ${id}\n\n`;
}

function frameOf(event: OutboxEvent, chunk: Chunk): Frame {
  const access = accessChange(event);
  const { id, topic } = event;
  return access === undefined ? { id, topic, chunk } : { id, topic, chunk, access };
}

export interface Session {
  /** Where the stream starts: the id of the last event that the client is taken to have. */
  readonly cursor: number;
  readonly epoch: string;
  /** At most 100 of the stream's topics. */
  readonly topics: readonly string[];
  readonly heartbeatSeconds: number;
  /** Good for `?resume=` until `resumeExpiresAt`; renewed before. */
  readonly resumeToken: string;
  readonly resumeExpiresAt: string;
  /** When the credential ends, ISO 8601. */
  readonly expiresAt: string;
}

/** The first block, and one that comes again when the resume token is renewed; `retryMs` is how long a client waits before it reconnects. */
export function sessionFrame(session: Session, retryMs: number): Chunk {
  return Chunk.of(`retry: ${retryMs}\nevent: session\ndata: ${JSON.stringify(session)}\n\n`);
}

/** Replay ends and live begins here. */
export function caughtUpFrame(cursor: number): Chunk {
  return Chunk.of(`event: caught-up\ndata: {"cursor":${cursor}}\nid: ${cursor}\n\n`);
}

/** A quiet client's cursor moves on over other people's events. */
export function cursorFrame(cursor: number): Chunk {
  return Chunk.of(`event: cursor\ndata: {"cursor":${cursor}}\nid: ${cursor}\n\n`);
}

export interface Reset {
  readonly reason: ResetReason;
  /** What the client asked for; null if it was no cursor at all. */
  readonly requested: number | null;
  /** The oldest cursor from which a replay would have been exact. */
  readonly oldest: number;
  /** The stream goes on from here. */
  readonly cursor: number;
}

/** Exact replay is impossible: take the state again. */
export function resetFrame(reset: Reset): Chunk {
  return Chunk.of(`event: reset\ndata: ${JSON.stringify(reset)}\n\n`);
}

/** The last block of a stream that the server ends. */
export function disconnectFrame(reason: DisconnectReason, retryMs: number): Chunk {
  return Chunk.of(
    `retry: ${retryMs}\nevent: disconnect\ndata: {"reason":"${reason}","retryAfterMs":${retryMs}}\n\n`,
  );
}
