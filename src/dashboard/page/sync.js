// Keeps the state equal to the database: a snapshot, then every event after the snapshot's cursor.
//
// A snapshot takes a moment to arrive while events go on. So events of what is being fetched are held back, and when
// the snapshot is there, those above its cursor are applied on top; the others it contains already.
import { applyEvent, applySnapshot, emptyState, knows, topicOf } from './state.js';

/** Held events beyond this many are let go, and the snapshot is taken once more instead. */
const HELD_AT_MOST = 2_000;
const RETRY_AT_MOST_MS = 10_000;
/** Deciding a dispute moves money, and the event does not say how much. */
const INCOMPLETE = new Set(['escrow:dispute_resolved']);

/**
 * @param {{
 *   snapshot(topic?: string): Promise<{ cursor: number | string, topics: Record<string, any> }>,
 *   changed(id: string | null): void,
 *   refused(): void,
 *   wait(ms: number): Promise<void>,
 * }} need
 */
export function createSync(need) {
  const sync = { state: emptyState(), restart, event };
  /** Topics being fetched, with their held events; while everything is being fetched, `all` holds them. */
  const fetching = new Map();
  let all = null;
  let working = false;

  /**
   * Takes the snapshot of everything, at the start and after a `reset`.
   * @returns {Promise<number | null>} its cursor; null if there is no session, or a later restart took over
   */
  function restart() {
    fetching.clear();
    all = { held: [], overflowed: false };
    const mine = all;
    return patiently(undefined, () => all === mine).then((snapshot) => {
      if (all !== mine || !snapshot) return null;
      if (mine.overflowed) return restart();
      all = null;
      sync.state = emptyState();
      applySnapshot(sync.state, snapshot.topics);
      need.changed(null);
      for (const it of mine.held) if (it.id > Number(snapshot.cursor)) event(it);
      return Number(snapshot.cursor);
    });
  }

  function event(it) {
    if (all) return hold(all, it);
    // The outbox cut this one down to its size, so nobody can tell what it was about.
    if (it.data.oversize) return void restart();
    const topic = topicOf(it.type, it.data);
    if (it.type === 'access:revoked') fetching.delete(topic);
    const waiting = fetching.get(topic);
    if (waiting) return hold(waiting, it);
    if (it.type === 'access:granted' || (it.type !== 'access:revoked' && topic && !knows(sync.state, topic)))
      return fetchLater(topic, it);
    need.changed(applyEvent(sync.state, it.type, it.data));
    if (INCOMPLETE.has(it.type)) fetchLater(topic);
  }

  function hold(queue, it) {
    if (queue.held.length < HELD_AT_MOST) queue.held.push(it);
    else queue.overflowed = true;
  }

  function fetchLater(topic, it) {
    fetching.set(topic, { held: it ? [it] : [], overflowed: false });
    if (!working) work();
  }

  /** One topic after the other: a thousand grants in one commit must not become a thousand requests at once. */
  async function work() {
    working = true;
    for (const [topic, queue] of fetching) {
      const snapshot = await patiently(topic, () => fetching.get(topic) === queue);
      if (fetching.get(topic) !== queue) continue;
      fetching.delete(topic);
      if (queue.overflowed) fetchLater(topic, queue.held[0]);
      else if (snapshot) arrive(snapshot, queue.held);
    }
    working = false;
  }

  function arrive(snapshot, held) {
    applySnapshot(sync.state, snapshot.topics);
    need.changed(null);
    for (const it of held)
      if (it.id > Number(snapshot.cursor) && it.type !== 'access:granted')
        need.changed(applyEvent(sync.state, it.type, it.data));
  }

  /** Asks until there is an answer; nothing if it is refused for good or no longer wanted. */
  async function patiently(topic, wanted) {
    for (let pause = 500; wanted(); pause = Math.min(pause * 2, RETRY_AT_MOST_MS)) {
      try {
        return await need.snapshot(topic);
      } catch (error) {
        if (error.final && (!topic || error.status === 401)) need.refused();
        if (error.final) return null;
        await need.wait(pause);
      }
    }
    return null;
  }

  return sync;
}
