import type { Pool } from 'pg';
import { type Aggregator, Counter, Gauge, Registry } from 'prom-client';
import type { Jwks } from '../access/jwks.ts';
import type { ProblemCode } from '../http/problems.ts';
import { RATE_LIMITS, type RateLimitName, type RateLimits } from '../http/rate-limits.ts';
import type { DisconnectReason, ResetReason } from '../hub/disconnect-reason.ts';
import type { Hub } from '../hub/hub.ts';
import type { SharedPages } from '../hub/shared-pages.ts';
import type { Replayer } from '../outbox/replayer.ts';
import type { Replica } from '../outbox/replica.ts';
import type { Relay } from '../relay/relay.ts';
import type { Snapshots } from '../snapshot/snapshots.ts';
import {
  collectProcessMetrics,
  type MetricFamily,
  type MetricsPage,
  renderRegistry,
} from './process-metrics.ts';
import { watchRelay } from './relay-metrics.ts';

/** Parts that keep values of their own. */
interface MetricsSources {
  readonly hub: Hub;
  readonly relay: Relay;
  readonly replayer: Replayer;
  readonly pages: SharedPages;
  readonly pool: Pool;
}

/** What the service counts, for Prometheus. Values that parts keep themselves are read when asked for. */
export class Metrics {
  readonly #registry = new Registry();
  readonly #connects: Counter;
  readonly #disconnects: Counter<'reason'>;
  readonly #resets: Counter<'reason'>;
  readonly #refusals: Counter<'reason'>;
  readonly #rateLimited: Counter<'limit'>;
  readonly #problems: Counter<'code'>;
  readonly #resumes: Counter<'membership'>;
  /** To be called when a batch of the relay was handed on, so long after its first event was appended. */
  readonly dispatched: (events: number, lagSeconds: number) => void;

  constructor({ hub, relay, replayer, pages, pool }: MetricsSources) {
    const registers = [this.#registry];
    collectProcessMetrics(this.#registry);
    this.#connects = new Counter({ registers, name: 'settlewire_connects_total', help: 'Streams opened.' });
    this.#disconnects = new Counter({
      registers,
      name: 'settlewire_disconnects_total',
      help: 'Streams that the server ended, by reason.',
      labelNames: ['reason'],
    });
    this.#resets = new Counter({
      registers,
      name: 'settlewire_resets_total',
      help: 'Streams that could not be replayed exactly, by reason.',
      labelNames: ['reason'],
    });
    this.#refusals = new Counter({
      registers,
      name: 'settlewire_refusals_total',
      help: 'Connects refused for the moment, by reason.',
      labelNames: ['reason'],
    });
    this.#resumes = new Counter({
      registers,
      name: 'settlewire_resumes_total',
      help: 'Connects with a resume token, by where it was found out what they may see.',
      labelNames: ['membership'],
    });
    this.#rateLimited = new Counter({
      registers,
      name: 'settlewire_rate_limited_total',
      help: 'Requests beyond a rate limit, by limit.',
      labelNames: ['limit'],
    });
    this.#problems = new Counter({
      registers,
      name: 'settlewire_problems_total',
      help: 'Answers that say what is wrong with a request, by code.',
      labelNames: ['code'],
    });
    const read = this.watch.bind(this);
    const count = this.watchTotal.bind(this);
    read('settlewire_subscribers', 'Open streams.', () => hub.subscribers.size);
    read(
      'settlewire_subscribers_replaying',
      'Open streams that are given the past, or do not keep up with the present.',
      () => [...hub.subscribers].filter(({ state }) => state === 'replaying').length,
    );
    read('settlewire_buffered_bytes', 'Bytes that wait for the sockets of streams.', () =>
      [...hub.subscribers].reduce((sum, { buffered }) => sum + buffered, 0),
    );
    read('settlewire_topics', 'Topics with at least one subscriber.', () => hub.topicCount);
    read('settlewire_cursor', 'Id of the last event read.', () => hub.cursor, 'min');
    read('settlewire_replay_window_events', 'Events in the replay window.', () => hub.window.events);
    read('settlewire_replay_window_bytes', 'Bytes in the replay window.', () => hub.window.bytes);
    count('settlewire_replay_pages', 'Pages of the past read from the database.', () => replayer.pages);
    read('settlewire_replay_waiting', 'Replays waiting for their turn.', () => replayer.waiting);
    count('settlewire_replay_pages_shared', 'Pages that had been read for somebody else.', () => pages.hits);
    count(
      'settlewire_replay_joins_shared',
      'Stretches of the past joined for several.',
      () => hub.joins.hits,
    );
    count('settlewire_replay_pages_ahead', 'Pages read before they were asked for.', () => pages.readAhead);
    read('settlewire_replay_cache_bytes', 'Bytes of pages kept for others.', () => pages.bytes);
    read('settlewire_replay_steps_waiting', 'Replays waiting for the event loop.', () => hub.turns.waiting);
    read(
      'settlewire_database_waiting',
      'Queries waiting for a database connection.',
      () => pool.waitingCount,
    );
    this.dispatched = watchRelay(this, this.#registry, relay);
  }

  /**
   * One more value that a part keeps itself.
   * @param aggregator what becomes of the values of several workers
   */
  watch(name: string, help: string, value: () => number, aggregator: Aggregator = 'sum'): void {
    new Gauge({
      registers: [this.#registry],
      name,
      help,
      aggregator,
      collect() {
        this.set(value());
      },
    });
  }

  /** One more count that a part keeps itself; it only goes up. */
  watchTotal(name: string, help: string, value: () => number): void {
    new Counter({
      registers: [this.#registry],
      name,
      help,
      collect() {
        this.reset();
        this.inc(value());
      },
    });
  }

  watchReplica(replica: Replica): void {
    this.watchTotal(
      'settlewire_replica_pages',
      'Pages of the past read from the replica.',
      () => replica.pages,
    );
    this.watchTotal(
      'settlewire_replica_passed_over',
      'Pages that the replica could not give: behind, in another epoch, or silent.',
      () => replica.passedOver,
    );
  }

  connected(): void {
    this.#connects.inc();
  }

  disconnected(reason: DisconnectReason): void {
    this.#disconnects.inc({ reason });
  }

  reset(reason: ResetReason): void {
    this.#resets.inc({ reason });
  }

  refused(reason: DisconnectReason): void {
    this.#refusals.inc({ reason });
  }

  resumed(membership: 'window' | 'database'): void {
    this.#resumes.inc({ membership });
  }

  problem(code: ProblemCode): void {
    this.#problems.inc({ code });
  }

  rateLimited(limit: RateLimitName): void {
    this.#rateLimited.inc({ limit });
  }

  /** Also tells how many keys the rate limits count, and how many they have forgotten too early. */
  watchRateLimits(rateLimits: RateLimits): void {
    const registers = [this.#registry];
    new Gauge({
      registers,
      name: 'settlewire_rate_limit_entries',
      help: 'Addresses or actors that a rate limit counts.',
      labelNames: ['limit'],
      collect() {
        for (const limit of RATE_LIMITS) this.set({ limit }, rateLimits.entries(limit));
      },
    });
    new Counter({
      registers,
      name: 'settlewire_rate_limit_evictions',
      help: 'Addresses or actors forgotten for want of room.',
      labelNames: ['limit'],
      collect() {
        this.reset();
        for (const limit of RATE_LIMITS) this.inc({ limit }, rateLimits.evictions(limit));
      },
    });
  }

  watchSnapshots(snapshots: Snapshots): void {
    this.watch('settlewire_snapshots_running', 'Snapshots being read.', () => snapshots.running);
    this.watch('settlewire_snapshots_waiting', 'Snapshots waiting for their turn.', () => snapshots.waiting);
    this.watchTotal(
      'settlewire_snapshots_refused',
      'Snapshots refused, too many waiting.',
      () => snapshots.refused,
    );
    this.watchTotal(
      'settlewire_snapshots_too_large',
      'Snapshots of too many rows.',
      () => snapshots.tooLarge,
    );
  }

  watchJwks(jwks: Jwks): void {
    this.watch('settlewire_jwks_keys', 'Usable keys in the last good JWKS.', () => jwks.size, 'min');
    this.watch(
      'settlewire_jwks_age_seconds',
      'Age of the last good JWKS; NaN before the first.',
      () => jwks.ageSeconds,
      'max',
    );
  }

  /** All metrics as they are now, to be added up with those of other workers. */
  families(): Promise<MetricFamily[]> {
    return this.#registry.getMetricsAsJSON();
  }

  /** All metrics in the Prometheus text format. */
  render(): Promise<MetricsPage> {
    return renderRegistry(this.#registry);
  }
}
