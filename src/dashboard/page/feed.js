// The event stream: one native EventSource, its state in words, and the cursor.
//
// The browser reconnects by itself and sends Last-Event-ID. It gives up only when it is refused with a status other
// than 200; then the owner of the feed finds out why and may `open` again from the cursor that was reached.
import { EVENT_TYPES } from './state.js';

/**
 * @param {{
 *   onEvent(event: { id: number, type: string, data: any, at: number }): void,
 *   onReset(reset: { reason: string, cursor: number }): void,
 *   onChange(): void,
 *   onClosed(): void,
 * }} listener
 */
export function createFeed(listener) {
  const feed = {
    /** connecting | replaying | live | reconnecting | closed */
    state: 'connecting',
    since: Date.now(),
    /** id of the last message that carried one */
    cursor: 0,
    duplicates: 0,
    /** why the server ended the last connection, in its words */
    reason: null,
    expiresAt: null,
    open,
    close,
  };
  let source = null;

  function become(state) {
    if (feed.state !== state) feed.since = Date.now();
    feed.state = state;
    listener.onChange();
  }

  function open(cursor) {
    close();
    feed.cursor = Number(cursor);
    source = new EventSource(`v1/events?lastEventId=${feed.cursor}`);
    source.onopen = () => become('replaying');
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) {
        become('closed');
        listener.onClosed();
      } else {
        become('reconnecting');
      }
    };
    for (const type of EVENT_TYPES) source.addEventListener(type, take);
    for (const [type, handle] of Object.entries(control)) source.addEventListener(type, handle);
  }

  function close() {
    source?.close();
    source = null;
  }

  function take(message) {
    const id = Number(message.lastEventId);
    if (id <= feed.cursor) {
      feed.duplicates += 1;
      listener.onChange();
      return;
    }
    feed.cursor = id;
    listener.onEvent({ id, type: message.type, data: JSON.parse(message.data), at: Date.now() });
  }

  const control = {
    session(message) {
      feed.expiresAt = JSON.parse(message.data).expiresAt ?? null;
      feed.reason = null;
      // It comes again, with a new resume token, while the stream is live.
      if (feed.state !== 'live') become('replaying');
    },
    'caught-up'(message) {
      feed.cursor = Math.max(feed.cursor, Number(message.lastEventId));
      become('live');
    },
    cursor(message) {
      feed.cursor = Math.max(feed.cursor, Number(message.lastEventId));
      listener.onChange();
    },
    // The one place where the cursor may go backwards: after "ahead" the ids to come are lower ones.
    reset(message) {
      const reset = JSON.parse(message.data);
      feed.cursor = Number(reset.cursor);
      listener.onReset(reset);
    },
    disconnect(message) {
      feed.reason = JSON.parse(message.data).reason;
      listener.onChange();
    },
  };

  return feed;
}
