import { type Connection, Receiver } from './connection.ts';
import { type Credentials, Door, type FullCredentials, Refusal } from './door.ts';
import type { Snapshot } from './events.ts';
import { FIRST_RETRY_MS, pauseMs, wait } from './pause.ts';
import { Source } from './source.ts';
import { type Locks, SharedLine } from './tabs.ts';

export type { Connection } from './connection.ts';
export type { Credentials, FullCredentials, GetCredential } from './door.ts';
export type * from './events.ts';
export type { Locks } from './tabs.ts';

export interface Options {
  /** Where the service is, such as `https://events.example.com`; for a page of the service itself, `location.origin`. */
  readonly url: string;
  readonly credentials: Credentials;
  /** What to follow; without it, everything that one may see. */
  readonly topics?: readonly string[];
  /** Begin right after this event; without it, with whatever happens from now on. */
  readonly cursor?: number;
  /**
   * One connection for all tabs that say the same here, about the same service and the same topics. Name who is signed in,
   * such as the user id: tabs of two people must not share. Where there are no Web Locks (Node 20 and 22, a page over plain
   * http) each has its own connection.
   */
  readonly share?: string;
  /** In place of the platform's `fetch`. */
  readonly fetch?: typeof fetch;
  /** In place of `navigator.locks`. */
  readonly locks?: Locks;
  /** To which pauses between failing attempts may grow, in milliseconds (30,000); the server may ask for more. */
  readonly longestPauseMs?: number;
  /** From 0 up to 1, to spread reconnections; in place of `Math.random`. */
  readonly random?: () => number;
}

export interface SnapshotOptions extends Omit<Options, 'cursor'> {
  /** No ticket: it opens streams, and no snapshots. */
  readonly credentials: FullCredentials;
}

/** Opens a connection that stays: it comes back by itself, and its application gets every event once and in order. */
export function connect<Custom = Record<never, never>>(options: Options): Connection<Custom> {
  const receiver = receive(options);
  // In the next turn, so that whoever called has had the time to listen.
  queueMicrotask(() => receiver.goOn(options.cursor));
  return receiver as Connection<Custom>;
}

/** The present state, and the cursor to subscribe from. @throws Refusal, an error with `reason` and `final` */
export async function takeSnapshot(
  options: SnapshotOptions,
  signal = AbortSignal.timeout(30_000),
): Promise<Snapshot> {
  const door = new Door(options.url, options.credentials, options.fetch);
  const query = (options.topics ?? []).map((topic) => ['topic', topic] as const);
  try {
    return (await (await door.ask({ path: '/v1/snapshot', query, signal })).json()) as Snapshot;
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal('network', false);
  }
}

/**
 * The state, then every event after it; after a `reset`, and after an event that was too big to travel, the same again.
 * Nothing falls in between. The state may hold events that come again: apply events by key, and let no older `updatedAt`
 * replace a newer one.
 * @param onSnapshot is given each state, before the events that follow it
 */
export function snapshotThenSubscribe<Custom = Record<never, never>>(
  options: SnapshotOptions,
  onSnapshot: (snapshot: Snapshot) => void,
): Connection<Custom> {
  const receiver = receive(options);
  const stopping = new AbortController();
  let taking = 0;
  async function take(): Promise<void> {
    receiver.hold();
    taking += 1;
    const mine = taking;
    for (let failures = 1; mine === taking && receiver.status.state !== 'closed'; failures += 1) {
      try {
        const snapshot = await takeSnapshot(
          options,
          AbortSignal.any([stopping.signal, AbortSignal.timeout(30_000)]),
        );
        if (mine !== taking || stopping.signal.aborted) return;
        receiver.emit('snapshot', snapshot);
        return receiver.goOn(snapshot.cursor);
      } catch (error) {
        if (stopping.signal.aborted) return;
        const { final, reason, retryAfterMs } = error as Refusal;
        if (final) return receiver.close(reason);
        const pause = pauseMs(failures, FIRST_RETRY_MS / 4, retryAfterMs, (options.random ?? Math.random)());
        if (receiver.cursor === undefined)
          receiver.onStatus({ state: 'waiting', reason, retryInMs: Math.round(pause) });
        await wait(pause, stopping.signal);
      }
    }
  }
  receiver.on('status', ({ state }: { state: string }) => state === 'closed' && stopping.abort());
  receiver.on('reset', () => void take());
  receiver.on('oversize', () => void take());
  receiver.on('snapshot', onSnapshot);
  queueMicrotask(() => void take());
  return receiver as Connection<Custom>;
}

function receive(options: Options): Receiver {
  const { url, credentials, topics = [], share } = options;
  const door = new Door(url, credentials, options.fetch);
  const locks = options.locks ?? (globalThis as { navigator?: { locks?: Locks } }).navigator?.locks;
  return new Receiver((receiver) =>
    share === undefined || locks === undefined
      ? new Source(door, options, receiver)
      : new SharedLine(
          `settlewire ${JSON.stringify([url, share, [...topics].sort()])}`,
          locks,
          (listener) => new Source(door, options, listener),
          receiver,
        ),
  );
}
