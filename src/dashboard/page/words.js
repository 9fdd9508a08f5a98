// How things are called on the page.

/** Status to tone: the colour of its dot. */
const TONES = {
  active: 'live',
  succeeded: 'live',
  accepted: 'live',
  completed: 'done',
  ended: 'done',
  withdrawn: 'done',
  resolved: 'done',
  draft: 'quiet',
  pending: 'quiet',
  open: 'bad',
  under_review: 'warn',
  paused: 'warn',
  expired: 'warn',
  disputed: 'bad',
  failed: 'bad',
  rejected: 'bad',
  cancelled: 'quiet',
};

/** What a disconnect means to the person who watches. */
const REASONS = {
  draining: 'the service is being restarted',
  token_expired: 'the session has expired',
  access_revoked: 'access was taken away',
  session_revoked: 'the session was ended',
  slow_consumer: 'this page was reading too slowly',
  max_age: 'routine reconnect',
  unavailable: 'the service is not ready',
  too_many_connections: 'too many connections',
  network: 'the line is broken',
  silent: 'nothing came for too long',
  ended: 'the line was closed',
  not_a_stream: 'something in between answered',
  rate_limited: 'connecting too often',
};

export function tone(status) {
  return TONES[status] ?? 'quiet';
}

export function reasonInWords(reason) {
  return REASONS[reason] ?? humanise(reason);
}

/** "under_review" and "escrow.funded" become "under review" and "escrow funded". */
export function humanise(name) {
  return String(name ?? '').replace(/[._:-]+/g, ' ');
}

/** The beginning of a uuid: enough to tell rows apart and to say aloud. */
export function shortId(id) {
  return String(id ?? '').slice(0, 8);
}

/** An address as wallets show it: its beginning and its end. */
export function shortAddress(address) {
  return address.length > 14 ? `${address.slice(0, 6)}…${address.slice(-4)}` : address;
}

/** @returns {string} how long ago, in one unit, such as "12 s ago" */
export function ago(time, now) {
  return time ? `${span(now - Date.parse(time))} ago` : '';
}

/** @param {number} ms @returns {string} a length of time in its largest unit */
export function span(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}
