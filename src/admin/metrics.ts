import type { Pool } from 'pg';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Jwks } from '../access/jwks.ts';
import type { ProblemCode } from '../http/problems.ts';
import { RATE_LIMITS, type RateLimitName, type RateLimits } from '../http/rate-limits.ts';
import type { DisconnectReason, ResetReason } from '../hub/disconnect-reason.ts';
import type { Hub } from '../hub/hub.ts';
import type { SharedPages } from '../hub/shared-pages.ts';
import type { Replayer } from '../outbox/replayer.ts';
import type { Replica } from '../outbox/replica.ts';
import { RELAY_MODES, type Relay } from '../relay/relay.ts';
import type { Snapshots } from '../snapshot/snapshots.ts';

/** Parts that keep values of their own. */
interface MetricsSources {
  readonly hub: Hub;
  readonly relay: Relay;
  readonly replayer: Replayer;
  readonly pages: SharedPages;
  readonly pool: Pool;
}

const BATCH_EVENTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
const LAG_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];

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
  readonly #batches: Histogram;
  readonly #lags: Histogram;

  constructor({ hub, relay, replayer, pages, pool }: MetricsSources) {
    const registers = [this.#registry];
    collectDefaultMetrics({ register: this.#registry });
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
    read('settlewire_subscribers', 'Open streams.', () => hub.subscribers.size);
    read(
      'settlewire_subscribers_replaying',
      'Open streams that are given the past, or do not keep up with the present.',
      () => [...hub.subscribers].filter(({ state }) => state === 'replaying').length,
    );
    read('settlewire_topics', 'Topics with at least one subscriber.', () => hub.topicCount);
    read('settlewire_cursor', 'Id of the last event read.', () => hub.cursor);
    read('settlewire_replay_window_events', 'Events in the replay window.', () => hub.window.events);
    read('settlewire_replay_window_bytes', 'Bytes in the replay window.', () => hub.window.bytes);
    read('settlewire_replay_pages', 'Pages of the past read from the database.', () => replayer.pages);
    read('settlewire_replay_waiting', 'Replays waiting for their turn.', () => replayer.waiting);
    read('settlewire_replay_pages_shared', 'Pages that had been read for somebody else.', () => pages.hits);
    read('settlewire_replay_cache_bytes', 'Bytes of pages kept for others.', () => pages.bytes);
    read('settlewire_replay_steps_waiting', 'Replays waiting for the event loop.', () => hub.turns.waiting);
    read(
      'settlewire_database_waiting',
      'Queries waiting for a database connection.',
      () => pool.waitingCount,
    );
    read('settlewire_relay_caught_up', '1 while connected and caught up.', () => Number(relay.caughtUp));
    read('settlewire_relay_asleep', '1 while waiting for a ring.', () => Number(relay.mode === 'asleep'));
    new Gauge({
      registers,
      name: 'settlewire_relay_mode',
      help: '1 for what the relay does now, 0 for the rest; deaf: polling because it has no session that listens.',
      labelNames: ['mode'],
      collect() {
        for (const mode of RELAY_MODES) this.set({ mode }, Number(relay.mode === mode));
      },
    });
    new Gauge({
      registers,
      name: 'settlewire_horizon_stall_seconds',
      help: 'How long a transaction has held back every reader, by its pid; absent while none does.',
      labelNames: ['pid', 'application'],
      collect() {
        this.reset();
        for (const { pid, applicationName } of relay.stall?.holders ?? []) {
          this.set({ pid: String(pid), application: String(applicationName) }, relay.stall?.seconds ?? 0);
        }
      },
    });
    read('settlewire_relay_rings', 'Rings heard.', () => relay.stats.rings);
    read('settlewire_relay_reads', 'Reads of the outbox.', () => relay.stats.reads);
    read('settlewire_relay_events', 'Events read.', () => relay.stats.events);
    read(
      'settlewire_relay_listen_losses',
      'Times the session that listens was lost or could not be had.',
      () => relay.stats.listenLosses,
    );
    read(
      'settlewire_relay_key_losses',
      'Times the doorbell key was gone although its session was not.',
      () => relay.stats.keyLosses,
    );
    read('settlewire_relay_reconnects', 'Times the relay lost its database.', () => relay.stats.reconnects);
    read(
      'settlewire_relay_lag_seconds',
      'From append to read, last batch, by the database clock.',
      () => relay.stats.lagSeconds,
    );
    this.#batches = new Histogram({
      registers,
      name: 'settlewire_relay_batch_events',
      help: 'Events of a read that found any.',
      buckets: BATCH_EVENTS,
    });
    this.#lags = new Histogram({
      registers,
      name: 'settlewire_relay_dispatch_seconds',
      help: 'From the append of the first event of a batch until the batch was handed on to its subscribers.',
      buckets: LAG_SECONDS,
    });
  }

  /** One more value that a part keeps itself. */
  watch(name: string, help: string, value: () => number): void {
    new Gauge({
      registers: [this.#registry],
      name,
      help,
      collect() {
        this.set(value());
      },
    });
  }

  watchReplica(replica: Replica): void {
    this.watch('settlewire_replica_pages', 'Pages of the past read from the replica.', () => replica.pages);
    this.watch(
      'settlewire_replica_passed_over',
      'Pages that the replica could not give: behind, in another epoch, or silent.',
      () => replica.passedOver,
    );
  }

  /** A batch of the relay was handed on, so long after its first event was appended. */
  dispatched(events: number, lagSeconds: number): void {
    this.#batches.observe(events);
    this.#lags.observe(lagSeconds);
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
    const watch = (name: string, help: string, value: (limit: RateLimitName) => number): void => {
      new Gauge({
        registers: [this.#registry],
        name,
        help,
        labelNames: ['limit'],
        collect() {
          for (const limit of RATE_LIMITS) this.set({ limit }, value(limit));
        },
      });
    };
    watch('settlewire_rate_limit_entries', 'Addresses or actors that a rate limit counts.', (limit) =>
      rateLimits.entries(limit),
    );
    watch('settlewire_rate_limit_evictions', 'Addresses or actors forgotten for want of room.', (limit) =>
      rateLimits.evictions(limit),
    );
  }

  watchSnapshots(snapshots: Snapshots): void {
    this.watch('settlewire_snapshots_running', 'Snapshots being read.', () => snapshots.running);
    this.watch('settlewire_snapshots_waiting', 'Snapshots waiting for their turn.', () => snapshots.waiting);
    this.watch(
      'settlewire_snapshots_refused',
      'Snapshots refused, too many waiting.',
      () => snapshots.refused,
    );
    this.watch('settlewire_snapshots_too_large', 'Snapshots of too many rows.', () => snapshots.tooLarge);
  }

  watchJwks(jwks: Jwks): void {
    this.watch('settlewire_jwks_keys', 'Usable keys in the last good JWKS.', () => jwks.size);
    this.watch(
      'settlewire_jwks_age_seconds',
      'Age of the last good JWKS; NaN before the first.',
      () => jwks.ageSeconds,
    );
  }

  /** All metrics in the Prometheus text format. */
  render(): Promise<{ contentType: string; body: string }> {
    return this.#registry.metrics().then((body) => ({ contentType: this.#registry.contentType, body }));
  }
}
