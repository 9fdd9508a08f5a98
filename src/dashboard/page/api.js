// The two calls that the page makes besides its event stream. Paths are relative to the page, so that it works
// behind a proxy that mounts the service somewhere else than at the root.

/** A refusal by the service; `status` is the HTTP status. */
export class Refused extends Error {
  constructor(status) {
    super(`the service answered ${status}`);
    this.status = status;
    /** No session, or one whose user may see nothing any more: neither mends itself by asking again. */
    this.final = status === 401 || status === 403;
  }
}

/** Milliseconds to add to this machine's clock to get the server's; small differences count as none. */
let skew = 0;

/** @returns {number} the server's clock, as near as its Date header tells */
export function serverNow() {
  return Date.now() + skew;
}

/**
 * Trades the token of the printed link for an HttpOnly cookie and takes it out of the address bar,
 * so that it is neither bookmarked, shared nor read over a shoulder.
 * @returns {Promise<boolean>} whether there was a token
 * @throws {Refused} if the service does not take it
 */
export async function openSession() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (!token) return false;
  history.replaceState(null, '', location.pathname + location.search);
  await call('v1/session', { method: 'POST', headers: { authorization: `Bearer ${token}` } });
  return true;
}

/**
 * @param {string} [topic] one topic, or nothing for everything of one's own
 * @returns {Promise<{ cursor: number | string, epoch: string, topics: Record<string, any> }>}
 * @throws {Refused} 401 without a session, 403 for a topic that is not (or no longer) visible or a closed account
 */
export async function snapshot(topic) {
  const query = topic ? `?topic=${encodeURIComponent(topic)}` : '';
  const response = await call(`v1/snapshot${query}`, { cache: 'no-store' });
  return response.json();
}

async function call(path, options) {
  const response = await fetch(path, { credentials: 'same-origin', ...options });
  const theirs = Date.parse(response.headers.get('date') ?? '');
  const off = theirs - Date.now();
  skew = Math.abs(off) > 2_000 ? off : 0;
  if (!response.ok) throw new Refused(response.status);
  return response;
}
