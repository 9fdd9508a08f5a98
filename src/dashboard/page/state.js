// What the page knows: plain data, no DOM. Every change is absolute, not a delta, so that an event
// already contained in a snapshot does no harm when it is applied again.
import { toUnits } from './money.js';

const SETTLEMENTS_KEPT = 20;
const NOTIFICATIONS_KEPT = 50;

/** @returns {{ streams: Map<string, any>, escrows: Map<string, any>, notifications: Map<string, any> }} */
export function emptyState() {
  return { streams: new Map(), escrows: new Map(), notifications: new Map() };
}

/**
 * @param {string} type an event type of the catalogue
 * @param {any} data its payload
 * @returns {string | null} the stream: or escrow: topic it speaks of; null for a person's own events
 */
export function topicOf(type, data) {
  if (type.startsWith('access:')) return data.topic;
  if (data.streamId && (type.startsWith('stream:') || type.startsWith('settle:')))
    return `stream:${data.streamId}`;
  if (data.escrowId && type.startsWith('escrow:')) return `escrow:${data.escrowId}`;
  return null;
}

/** @returns {boolean} whether the page holds what this topic is about */
export function knows(state, topic) {
  const [kind, id] = cut(topic);
  if (kind === 'stream') return state.streams.has(id);
  if (kind === 'escrow') return state.escrows.has(id);
  return true;
}

/** Puts a snapshot's topics into the state, each one replacing what was known of it. */
export function applySnapshot(state, topics) {
  for (const [topic, value] of Object.entries(topics)) {
    const [kind, id] = cut(topic);
    if (kind === 'stream') state.streams.set(id, value);
    if (kind === 'escrow') state.escrows.set(id, value);
    for (const stream of value.streams ?? []) state.streams.set(stream.streamId, stream);
    for (const escrow of value.escrows ?? []) state.escrows.set(escrow.escrowId, escrow);
    for (const note of value.notifications ?? []) state.notifications.set(note.id, note);
  }
}

/**
 * Applies one event.
 * @returns {string | null} the id of the row that changed, for the eye to be drawn to
 */
export function applyEvent(state, type, data) {
  return APPLY[type]?.(state, data) ?? null;
}

const APPLY = {
  'stream:updated'(state, { previousStatus: _, ...data }) {
    if (!data.streamId) return null;
    const known = state.streams.get(data.streamId);
    if (isOlder(data.updatedAt, known?.updatedAt)) return null;
    state.streams.set(data.streamId, { settlements: [], ...known, ...data });
    return data.streamId;
  },
  'settle:finished'(state, data) {
    const stream = state.streams.get(data.streamId);
    if (!stream) return null;
    const others = stream.settlements.filter((it) => it.settlementId !== data.settlementId);
    const settlements = [data, ...others].sort(newestBy('finishedAt')).slice(0, SETTLEMENTS_KEPT);
    state.streams.set(data.streamId, { ...stream, settlements });
    return data.streamId;
  },
  'escrow:status_changed'(state, { previousStatus: _, ...data }) {
    return changeEscrow(state, data.escrowId, (it) => (isOlder(data.updatedAt, it.updatedAt) ? {} : data));
  },
  'escrow:milestone_released'(state, { escrowId, releasedAmount, ...milestone }) {
    return changeEscrow(state, escrowId, (it) => ({
      milestones: [...it.milestones.filter((m) => m.conditionId !== milestone.conditionId), milestone],
      releasedAmount: larger(it.releasedAmount, releasedAmount),
    }));
  },
  'escrow:dispute_filed'(state, { escrowId, ...dispute }) {
    return changeEscrow(state, escrowId, (it) =>
      it.dispute?.disputeId === dispute.disputeId && it.dispute.status === 'resolved'
        ? {}
        : { dispute: { ...it.dispute, ...dispute } },
    );
  },
  'escrow:dispute_resolved'(state, { escrowId, ...dispute }) {
    return changeEscrow(state, escrowId, (it) => ({
      dispute: { ...it.dispute, ...dispute, status: 'resolved' },
    }));
  },
  'escrow:party_joined'(state, { escrowId, ...party }) {
    return changeEscrow(state, escrowId, (it) => ({
      parties: it.parties.some((p) => p.partyId === party.partyId)
        ? it.parties.map((p) => (p.partyId === party.partyId ? party : p))
        : [...it.parties, party],
    }));
  },
  'notification:new'(state, data) {
    if (!data.id) return null;
    const known = state.notifications.get(data.id);
    state.notifications.set(data.id, { readAt: null, ...known, ...data });
    for (const old of [...state.notifications.values()].sort(newestBy('createdAt')).slice(NOTIFICATIONS_KEPT))
      state.notifications.delete(old.id);
    return data.id;
  },
  'notification:read'(state, data) {
    const known = state.notifications.get(data.id);
    if (!known) return null;
    state.notifications.set(data.id, { ...known, readAt: data.readAt });
    return data.id;
  },
  'access:revoked'(state, data) {
    const [kind, id] = cut(data.topic);
    if (kind === 'stream') state.streams.delete(id);
    if (kind === 'escrow') state.escrows.delete(id);
    return null;
  },
};

function changeEscrow(state, id, change) {
  const escrow = state.escrows.get(id);
  if (!escrow) return null;
  state.escrows.set(id, { ...escrow, ...change(escrow) });
  return id;
}

function cut(topic) {
  const at = topic.indexOf(':');
  return [topic.slice(0, at), topic.slice(at + 1)];
}

/** Compares two ISO times by value: a microsecond spelling and a millisecond one name the same instant. */
function isOlder(time, than) {
  return Boolean(time && than && Date.parse(time) < Date.parse(than));
}

function larger(a, b) {
  return (toUnits(a) ?? 0n) > (toUnits(b) ?? 0n) ? a : b;
}

/** @returns a comparator: rows with the latest `key` first, rows without one last */
export function newestBy(key) {
  return (a, b) => (Date.parse(b[key] ?? '') || 0) - (Date.parse(a[key] ?? '') || 0);
}
