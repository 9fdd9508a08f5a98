import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Pool } from 'pg';
import type { Logger } from 'pino';
import { createCredentials, createJwks } from './access/credentials.ts';
import type { Jwks } from './access/jwks.ts';
import { checkSuppliedFunction } from './access/supplied-membership.ts';
import { Metrics } from './admin/metrics.ts';
import { applyRevocations } from './admin/revocations.ts';
import { type AdminSource, createAdminServer } from './admin/server.ts';
import { OpenStreams, pageOf } from './admin/subscriptions.ts';
import type { Config } from './config.ts';
import { createKysely, createPool, DATABASE_SILENCE_MS } from './database.ts';
import { createApp } from './http/app.ts';
import { ConnectionLimits } from './http/connection-limits.ts';
import type { Condition, Context } from './http/context.ts';
import { GivenConnections } from './http/given-connections.ts';
import { close, listen, urlOf } from './http/listening.ts';
import { RateLimits } from './http/rate-limits.ts';
import { createPublicServer } from './http/server.ts';
import { drain } from './hub/drain.ts';
import { Hub } from './hub/hub.ts';
import { createMemberships } from './memberships.ts';
import { pendingMigrations } from './migrate.ts';
import { Retention } from './outbox/retention.ts';
import { checkRights } from './outbox/rights.ts';
import { Relay } from './relay/relay.ts';
import { createReplays, type Replays } from './replays.ts';
import { Snapshots } from './snapshot/snapshots.ts';

export interface ServiceOptions {
  readonly config: Config;
  readonly databaseUrl: string;
  readonly log: Logger;
  readonly random?: () => number;
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  /** Milliseconds of a clock that never goes back. */
  readonly clock?: () => number;
  /** Which of several workers this is, from 1: it has no ports, but is given connections. Left out: the only process, with both. */
  readonly worker?: number;
}

const RETENTION_INTERVAL_MS = 60_000;

/** One process: a relay, a hub and the two ports, wired together. Knows everybody; only serve and the workers know it. */
export class Service {
  readonly #config: Config;
  readonly #log: Logger;
  readonly #random: () => number;
  readonly #pool: Pool;
  readonly #replays: Replays;
  readonly #relay: Relay;
  readonly #retention: Retention;
  readonly #jwks: Jwks | null;
  readonly #server: Server;
  readonly #admin: Server;
  /** Of a worker. */
  readonly #given: GivenConnections | undefined;
  readonly #databaseUrl: string;
  #migrated = false;
  #draining = false;
  #stopped: Promise<void> | undefined;
  readonly hub: Hub;
  /** What operators ask of this process. */
  readonly answers: AdminSource;
  readonly metrics: Metrics;

  constructor({
    config,
    databaseUrl,
    log,
    random = Math.random,
    now = Date.now,
    clock = () => performance.now(),
    worker,
  }: ServiceOptions) {
    this.#config = config;
    this.#log = log;
    this.#random = random;
    this.#databaseUrl = databaseUrl;
    this.#pool = createPool(databaseUrl, {
      max: config.databasePoolSize,
      silenceMs: DATABASE_SILENCE_MS,
      onIdleError: (error) => log.warn({ err: error }, 'an idle database connection was lost'),
    });
    this.#replays = createReplays(config, {
      primary: this.#pool,
      log,
      silenceMs: DATABASE_SILENCE_MS,
      now: () => performance.now(),
    });
    this.hub = new Hub({ maxEvents: config.replayWindowEvents, maxBytes: config.replayWindowBytes });
    this.#relay = new Relay({
      connectionString: config.listenDatabaseUrl ?? databaseUrl,
      hub: this.hub,
      log,
      batchEvents: config.relayBatchEvents,
      pollIntervalMs: config.pollIntervalMs,
      maxPollIntervalMs: config.maxPollIntervalMs,
      safetyPollMs: config.safetyPollMs,
      timeoutMs: config.relayTimeoutMs,
      wakeRingsPerSecond: config.wakeRingsPerSecond,
      sleepEventsPerSecond: config.sleepEventsPerSecond,
      stallAlertSeconds: config.stallAlertSeconds,
      onDispatch: (events, lagSeconds) => metrics.dispatched(events, lagSeconds),
    });
    this.#retention = new Retention({
      pool: this.#pool,
      log,
      retentionHours: config.retentionHours,
      intervalMs: RETENTION_INTERVAL_MS,
    });
    const { replayer, pages, replica } = this.#replays;
    const metrics = new Metrics({ hub: this.hub, relay: this.#relay, replayer, pages, pool: this.#pool });
    if (replica !== undefined) metrics.watchReplica(replica);
    const rateLimits = new RateLimits(config, clock, (limit) => metrics.rateLimited(limit));
    metrics.watchRateLimits(rateLimits);
    const snapshots = new Snapshots({
      db: createKysely(this.#pool),
      concurrency: config.snapshotConcurrency,
      maxWaiting: config.snapshotWaiting,
      maxRows: config.snapshotMaxRows,
    });
    metrics.watchSnapshots(snapshots);
    metrics.watch(
      'settlewire_revocations',
      'Revocations that the database holds, as of the last round of retention.',
      () => this.#retention.revocations,
      'max',
    );
    const connectionLimits = new ConnectionLimits(config);
    const streams = new OpenStreams(worker);
    this.#jwks = createJwks(config, log);
    if (this.#jwks !== null) metrics.watchJwks(this.#jwks);
    const context: Context = {
      config,
      log,
      metrics,
      hub: this.hub,
      pool: this.#pool,
      connectionLimits,
      openStreams: streams,
      rateLimits,
      snapshots,
      pages,
      ...createMemberships(config, this.#pool, metrics, clock),
      ...createCredentials(config, this.#jwks, now),
      condition: () => this.condition,
      random,
      now,
    };
    this.#server = createPublicServer(createApp(context), config, metrics, () => connectionLimits.total);
    this.#given = worker === undefined ? undefined : new GivenConnections(this.#server);
    this.metrics = metrics;
    this.answers = {
      metrics: () => metrics.render(),
      subscriptions: async (page) => pageOf({ streams, hub: this.hub }, page),
      revoked: (stored) => applyRevocations(this.hub, stored),
      readiness: async () => ({ status: this.condition }),
    };
    this.#admin = createAdminServer({
      token: config.adminToken,
      source: this.answers,
      pool: this.#pool,
      log,
    });
  }

  get condition(): Condition {
    if (this.#draining) return 'draining';
    return this.#migrated && this.#relay.caughtUp ? 'ready' : 'unavailable';
  }

  /** Where it listens, once started. */
  get url(): string {
    return urlOf(this.#server);
  }

  get adminUrl(): string {
    return urlOf(this.#admin);
  }

  /**
   * Listens, then follows the outbox; resolves when it is ready.
   * @throws if a port is taken, a migration is missing, or its database role lacks a right
   */
  async start(): Promise<void> {
    const config = this.#config;
    this.#jwks?.start();
    if (this.#given === undefined) {
      await listen(this.#server, config.port, config.host);
      await listen(this.#admin, config.adminPort, config.adminHost);
    } else this.#given.start();
    await checkRights(this.#databaseUrl);
    const pending = await pendingMigrations({
      connectionString: this.#databaseUrl,
      set: config.migrate === 'outbox' ? 'outbox' : 'all',
    });
    if (pending.length > 0)
      throw new Error(`migrations are missing, run settlewire migrate: ${pending.join(', ')}`);
    await this.#checkAuthorization();
    this.#migrated = true;
    this.#relay.start();
    this.#retention.start();
    while (!this.#relay.caughtUp && !this.#draining) await delay(5);
  }

  /** Of a worker: serves a connection, nothing of which has been read. */
  take(socket: Socket): void {
    this.#given?.take(socket);
  }

  async #checkAuthorization(): Promise<void> {
    const { authorizeFunction, migrate } = this.#config;
    if (authorizeFunction !== null) await checkSuppliedFunction(this.#pool, authorizeFunction);
    else if (migrate === 'outbox')
      throw new Error(
        'MIGRATE=outbox needs AUTHORIZE_FUNCTION, or nobody could be let in: see docs/adopting.md',
      );
  }

  /**
   * Drains and stops: new clients are refused, those connected are sent away one after the other over DRAIN_SECONDS.
   * May be called twice; both wait for the same end.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#draining = true;
    this.#given?.leave();
    await this.#drain();
    if (this.#given === undefined) await Promise.all([close(this.#server), close(this.#admin)]);
    else await this.#given.close();
    await Promise.all([this.#relay.stop(), this.#retention.stop(), this.#jwks?.stop()]);
    await Promise.all([this.#pool.end(), this.#replays.end()]);
  }

  async #drain(): Promise<void> {
    const subscribers = [...this.hub.subscribers];
    if (subscribers.length === 0) return;
    this.#log.info({ subscribers: subscribers.length }, 'draining');
    await drain(subscribers, this.#config.drainSeconds * 1000, this.#random);
  }
}
