import type { Request, RequestHandler, Response } from 'express';
import { ipKeyGenerator, rateLimit } from 'express-rate-limit';
import type { Claims } from '../access/token.ts';
import { isUuid, normalWallet } from '../access/topics.ts';
import type { Config } from '../config.ts';
import { BoundedStore } from './bounded-store.ts';
import { Refusal } from './refusal.ts';

/*
 * How often, per minute.
 *
 * Credentials that are refused are counted by address: the client's, or with TRUST_PROXY the one that the proxies name; of IPv6
 * the /56, which is what one customer gets. At the bound only refused credentials are answered with 429: one that is valid is
 * always let in, since behind one address may be an office, or everybody if a proxy is not declared, and one broken page in a
 * loop, or one attacker, must not lock them out. Nothing is lost by it: no credential here is short enough to be guessed.
 *
 * Whatever costs the database something is counted by actor, after authentication: an office that comes in the morning and
 * everybody who comes back after a deploy are not an attack.
 *
 * Each count is one step of one turn, so that a burst cannot overshoot.
 */

const WINDOW_MS = 60_000;
/** IPv6 addresses that have so many bits in common are one client. */
const IPV6_PREFIX = 56;
/** Longer than any address or subject; what a misconfigured proxy passes on is cut. */
const MAX_KEY_LENGTH = 160;

export const RATE_LIMITS = ['auth_failures', 'connects', 'sessions', 'snapshots'] as const;
export type RateLimitName = (typeof RATE_LIMITS)[number];

type RateSettings = Pick<
  Config,
  | 'authFailuresPerMinute'
  | 'connectRatePerMinute'
  | 'sessionRatePerMinute'
  | 'snapshotRatePerMinute'
  | 'rateLimitEntries'
>;

interface Limit {
  readonly store: BoundedStore;
  readonly count: RequestHandler;
}

export class RateLimits {
  readonly #limits: Readonly<Record<RateLimitName, Limit>>;

  /**
   * @param clock milliseconds; never goes back
   * @param onLimited called for each request beyond a limit
   */
  constructor(settings: RateSettings, clock: () => number, onLimited: (name: RateLimitName) => void) {
    const limit = (name: RateLimitName, max: number): Limit => {
      const store = new BoundedStore({ maxEntries: settings.rateLimitEntries, clock });
      const count = rateLimit({
        windowMs: WINDOW_MS,
        limit: max,
        store,
        keyGenerator: (_request, response) => keyOf(response),
        handler: (_request, response, next) => {
          onLimited(name);
          next(new Refusal('rate_limited', store.leftMs(keyOf(response))));
        },
        standardHeaders: false,
        legacyHeaders: false,
        // They print to the console, some of them at the word of a client's header.
        validate: false,
      });
      return { store, count };
    };
    this.#limits = {
      auth_failures: limit('auth_failures', settings.authFailuresPerMinute),
      connects: limit('connects', settings.connectRatePerMinute),
      sessions: limit('sessions', settings.sessionRatePerMinute),
      snapshots: limit('snapshots', settings.snapshotRatePerMinute),
    };
  }

  /** Keys that are being counted. */
  entries(name: RateLimitName): number {
    return this.#limits[name].store.size;
  }

  /** Keys forgotten too early, for want of room. */
  evictions(name: RateLimitName): number {
    return this.#limits[name].store.evictions;
  }

  /**
   * Counts a refused credential against the address that it came from.
   * @throws Refusal rate_limited beyond AUTH_FAILURES_PER_MINUTE
   */
  authFailed(request: Request, response: Response): Promise<void> {
    const address = request.ip ?? request.socket.remoteAddress ?? 'unknown';
    return this.#count('auth_failures', request, response, ipKeyGenerator(address, IPV6_PREFIX));
  }

  /**
   * Counts a request against whoever the claims speak for.
   * @throws Refusal rate_limited beyond the limit of that name
   */
  byActor(
    name: Exclude<RateLimitName, 'auth_failures'>,
    request: Request,
    response: Response,
    { subject }: Pick<Claims, 'subject'>,
  ): Promise<void> {
    const actor = isUuid(subject) ? subject.toLowerCase() : normalWallet(subject);
    return this.#count(name, request, response, actor);
  }

  #count(name: RateLimitName, request: Request, response: Response, key: string): Promise<void> {
    response.locals[KEY] = key.slice(0, MAX_KEY_LENGTH);
    return new Promise((resolve, reject) => {
      this.#limits[name].count(request, response, (error?: unknown) =>
        error === undefined ? resolve() : reject(error),
      );
    });
  }
}

/** Where express-rate-limit's middleware finds what a request is counted by. */
const KEY = 'rateLimitKey';

function keyOf({ locals }: Response): string {
  return String(locals[KEY]);
}
