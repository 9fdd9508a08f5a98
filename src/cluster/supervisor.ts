import cluster from 'node:cluster';
import type { Server } from 'node:http';
import type { Pool } from 'pg';
import type { Logger } from 'pino';
import type { StoredRevocation } from '../access/revocation.ts';
import { renderRegistry } from '../admin/process-metrics.ts';
import { type AdminSource, createAdminServer } from '../admin/server.ts';
import type { PageRequest, SubscriptionPage } from '../admin/subscriptions.ts';
import type { Config } from '../config.ts';
import { createPool, DATABASE_SILENCE_MS } from '../database.ts';
import type { Condition } from '../http/context.ts';
import { close, listen, urlOf } from '../http/listening.ts';
import { Crew } from './crew.ts';
import { Door } from './door.ts';
import { Member } from './member.ts';
import { SupervisorMetrics } from './supervisor-metrics.ts';

export interface SupervisorOptions {
  readonly config: Config;
  /** Of a migrated database, as the service's role. */
  readonly databaseUrl: string;
  readonly log: Logger;
}

/** What a worker needs to leave, besides DRAIN_SECONDS, in milliseconds. */
const LEAVE_MS = 10_000;

/** An instance of several processes: the two ports, and the workers behind them. */
export class Supervisor {
  readonly #config: Config;
  readonly #crew: Crew;
  readonly #door: Door;
  readonly #metrics: SupervisorMetrics;
  readonly #admin: Server;
  /** For revocations. */
  readonly #pool: Pool;
  #ready = false;
  #stopped: Promise<void> | undefined;

  constructor({ config, databaseUrl, log }: SupervisorOptions) {
    this.#config = config;
    // Unlike JSON, it keeps NaN and infinity, which metrics and revocations have.
    cluster.setupPrimary({ serialization: 'advanced' });
    this.#crew = new Crew({
      size: config.workers,
      databaseUrl,
      leaveMs: config.drainSeconds * 1000 + LEAVE_MS,
      silenceMs: config.workerSilenceSeconds * 1000,
      log,
      fork: () => new Member(cluster.fork()),
      onGone: (member) => {
        for (const socket of member.untaken()) this.#door.give(socket);
      },
      clock: () => performance.now(),
    });
    this.#door = new Door({ members: () => this.#crew.members, maxWaiting: config.maxOtherConnections });
    this.#metrics = new SupervisorMetrics(this.#crew, this.#door);
    this.#pool = createPool(databaseUrl, {
      max: 1,
      silenceMs: DATABASE_SILENCE_MS,
      onIdleError: (error) => log.warn({ err: error }, 'an idle database connection was lost'),
    });
    this.#admin = createAdminServer({
      token: config.adminToken,
      source: this.#source(),
      pool: this.#pool,
      log,
    });
  }

  /** Where it listens, once started. */
  get url(): string {
    return this.#door.url;
  }

  get adminUrl(): string {
    return urlOf(this.#admin);
  }

  get condition(): Condition {
    if (this.#crew.stopping) return 'draining';
    return this.#ready ? 'ready' : 'unavailable';
  }

  /**
   * Listens, then starts the workers; resolves when all are ready.
   * @throws if a port is taken, or what the first worker says that cannot start
   */
  async start(): Promise<void> {
    await this.#door.listen(this.#config.port, this.#config.host);
    await listen(this.#admin, this.#config.adminPort, this.#config.adminHost);
    await this.#crew.start();
    this.#ready = true;
  }

  /** Replaces the workers one after the other; before they are ready there is nothing to replace. */
  async roll(): Promise<void> {
    if (this.#ready) await this.#crew.roll();
  }

  /** All workers drain at the same time, then everything stops. May be called twice. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    await this.#crew.stop();
    this.#door.close();
    await close(this.#admin);
    await this.#pool.end();
  }

  #source(): AdminSource {
    return {
      metrics: async () => renderRegistry(await this.#metrics.sum()),
      subscriptions: (page) => this.#subscriptions(page),
      revoked: (stored) => this.#revoked(stored),
      readiness: () => this.#readiness(),
    };
  }

  /** Numbers are given in steps, so none is given twice, and those of a worker grow: the first of all are among the first of each. */
  async #subscriptions(page: PageRequest): Promise<SubscriptionPage> {
    const pages = (await this.#crew.ask('subscriptions', page)).map(({ answer }) => answer);
    const found = pages.flatMap(({ subscriptions }) => subscriptions).sort((a, b) => a.number - b.number);
    const subscriptions = found.slice(0, page.limit);
    const more = found.length > page.limit || pages.some(({ next }) => next !== null);
    return {
      total: pages.reduce((sum, { total }) => sum + total, 0),
      next: more ? (subscriptions.at(-1)?.number ?? null) : null,
      subscriptions,
    };
  }

  async #revoked(stored: readonly StoredRevocation[]): Promise<boolean> {
    const asked = this.#crew.members;
    const answers = await this.#crew.ask('revoked', stored);
    return asked.every(
      (member) => member.state === 'gone' || answers.some((each) => each.member === member && each.answer),
    );
  }

  async #readiness(): Promise<{ status: Condition; workers: number; ready: number }> {
    const { workers } = this.#config;
    const answers = await this.#crew.ask('condition', null);
    const ready = answers.filter(({ answer }) => answer === 'ready').length;
    const status = this.#crew.stopping ? 'draining' : ready >= workers ? 'ready' : 'unavailable';
    return { status, workers, ready };
  }
}
