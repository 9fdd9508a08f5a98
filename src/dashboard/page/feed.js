// The event stream: settlewire/client, its state in the page's words, and the cursor.
import { connect } from './client.js';

/** The page's own folder, so that it works behind a proxy that mounts the service somewhere else than at the root. */
const SERVICE = new URL('.', location.href).href;
/** Whoever watches a page wants it back soon. */
const LONGEST_PAUSE_MS = 5_000;
const STATES = { replaying: 'replaying', live: 'live', closed: 'closed' };

/** A connection of this page's person, from a cursor. @param {typeof fetch} [over] what carries it */
export function follow(cursor, over) {
  return connect({
    url: SERVICE,
    credentials: 'cookie',
    cursor,
    longestPauseMs: LONGEST_PAUSE_MS,
    ...(over && { fetch: over }),
  });
}

/**
 * @param {{
 *   onEvent(event: { id: number, type: string, data: any, at: number, live: boolean }): void,
 *   onReset(reset: { reason: string, cursor: number }): void,
 *   onOversize(): void,
 *   onStatus(status: { state: string, reason?: string, retryInMs?: number }): void,
 *   onClosed(): void,
 * }} listener
 * @param {typeof fetch} over what carries the stream
 */
export function createFeed(listener, over) {
  const feed = {
    /** connecting | replaying | live | reconnecting | closed */
    state: 'connecting',
    since: Date.now(),
    /** why the connection ended, in the client's words; that nobody answers says less than what was said before */
    reason: null,
    /** id of the last message that carried one */
    get cursor() {
      return connection?.cursor ?? 0;
    },
    get duplicates() {
      return connection?.duplicates ?? 0;
    },
    open,
    close: () => connection?.close(),
  };
  let connection = null;
  let beenLive = false;

  function open(cursor) {
    connection = follow(cursor, over);
    connection.on('event', ({ id, type, data }) =>
      listener.onEvent({ id, type, data, at: Date.now(), live: feed.state === 'live' }),
    );
    connection.on('reset', listener.onReset);
    connection.on('oversize', listener.onOversize);
    connection.on('status', take);
  }

  function take(status) {
    const state = STATES[status.state] ?? (beenLive ? 'reconnecting' : 'connecting');
    if (feed.state !== state) feed.since = Date.now();
    feed.state = state;
    if (state === 'live') feed.reason = null;
    else if (feed.reason === null || status.reason !== 'network') feed.reason = status.reason ?? feed.reason;
    beenLive ||= state === 'live';
    listener.onStatus(status);
    if (state === 'closed') listener.onClosed();
  }

  return feed;
}
