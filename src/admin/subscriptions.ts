import type { RequestHandler } from 'express';
import type { Actor } from '../access/actor.ts';
import { Problem } from '../http/errors.ts';
import type { Hub } from '../hub/hub.ts';
import type { Subscriber } from '../hub/subscriber.ts';
import type { Subscription } from '../hub/subscription.ts';

/** An open stream, for operators. Nothing in it lets anybody in. */
export interface OpenStream {
  readonly subscriber: Subscriber;
  readonly subscription: Subscription;
  readonly actor: Actor;
  readonly address: string;
  /** Milliseconds since 1970. */
  readonly since: number;
}

const LISTED_TOPICS = 20;
const DEFAULT_LIMIT = 100;
const MAX_LIMIT = 1000;

/** A part of the list, as it is answered. */
export interface SubscriptionPage {
  readonly total: number;
  /** The number after which the next page begins; null on the last one. */
  readonly next: number | null;
  readonly subscriptions: readonly ({ readonly number: number } & Readonly<Record<string, unknown>>)[];
}

/** Which page: at most `limit` streams with a number above `after`. */
export interface PageRequest {
  readonly after: number;
  readonly limit: number;
}

/** Numbers are given in steps of so many, so that workers, each with a first number of its own, give none twice. */
export const NUMBER_STEP = 1024;

/** The open streams of this process, in the order in which they were opened. */
export class OpenStreams {
  readonly #streams = new Map<number, OpenStream>();
  readonly #step: number;
  #last: number;

  /** @param worker which of several workers this is, from 1; left out: the only one */
  constructor(worker?: number) {
    this.#step = worker === undefined ? 1 : NUMBER_STEP;
    this.#last = worker === undefined ? 0 : worker % NUMBER_STEP;
  }

  get size(): number {
    return this.#streams.size;
  }

  /** @returns what takes it off the list */
  add(stream: OpenStream): () => void {
    this.#last += this.#step;
    const number = this.#last;
    this.#streams.set(number, stream);
    return () => void this.#streams.delete(number);
  }

  /** At most `limit` of those with a number above `after`, and whether there are more. */
  page(after: number, limit: number): { streams: [number, OpenStream][]; more: boolean } {
    const streams: [number, OpenStream][] = [];
    for (const entry of this.#streams) {
      if (entry[0] <= after) continue;
      if (streams.length === limit) return { streams, more: true };
      streams.push(entry);
    }
    return { streams, more: false };
  }
}

/** `GET /v1/subscriptions?limit=…&after=…`: who follows what, and how far they are. */
export function subscriptionsRoute(read: (page: PageRequest) => Promise<SubscriptionPage>): RequestHandler {
  return async ({ query }, response) => {
    const limit = whole(query['limit'], 'limit', DEFAULT_LIMIT);
    if (limit < 1 || limit > MAX_LIMIT) throw new Problem('bad_request', `limit is from 1 to ${MAX_LIMIT}`);
    const page = await read({ after: whole(query['after'], 'after', 0), limit });
    response.setHeader('Cache-Control', 'no-store');
    response.json(page);
  };
}

/** A page of the streams of this process. */
export function pageOf(
  { streams, hub }: { streams: OpenStreams; hub: Hub },
  { after, limit }: PageRequest,
): SubscriptionPage {
  const page = streams.page(after, limit);
  return {
    total: streams.size,
    next: page.more ? (page.streams.at(-1)?.[0] ?? null) : null,
    subscriptions: page.streams.map(([number, stream]) => describe(number, stream, hub)),
  };
}

function describe(
  number: number,
  { subscriber, subscription, actor, address, since }: OpenStream,
  hub: Hub,
): SubscriptionPage['subscriptions'][number] {
  // A live stream has had what the hub has, though not all of it was for it.
  const cursor = subscriber.state === 'live' ? Math.max(hub.cursor, subscriber.cursor) : subscriber.cursor;
  const { userId, walletAddress, role } = actor;
  return {
    number,
    actor: { userId, walletAddress, role },
    address,
    since: new Date(since).toISOString(),
    state: subscriber.state,
    cursor,
    behind: Math.max(0, hub.cursor - cursor),
    bufferedBytes: subscriber.buffered,
    topics: subscription.list(LISTED_TOPICS),
    topicCount: subscription.count,
  };
}

function whole(text: unknown, name: string, fallback: number): number {
  if (text === undefined) return fallback;
  if (typeof text !== 'string' || !/^\d{1,15}$/.test(text))
    throw new Problem('bad_request', `${name} is no whole number`);
  return Number(text);
}
