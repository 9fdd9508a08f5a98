import { type IncomingHttpHeaders, request } from 'node:http';
import type { Pool } from 'pg';
import type { Service, ServiceOptions } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';
import { startService } from './service.ts';
import { SseClient } from './sse-client.ts';
import { waitFor } from './wait-for.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

type Environment = Record<string, string>;
type Options = Partial<Pick<ServiceOptions, 'now' | 'random' | 'log' | 'clock'>>;

/** A database of one's own, a service on it, and clients of theirs; all taken down together. */
export class Stage {
  readonly database: TestDatabase;
  readonly service: Service;
  readonly #services: Service[];
  readonly #clients: SseClient[] = [];

  private constructor(database: TestDatabase, service: Service) {
    this.database = database;
    this.service = service;
    this.#services = [service];
  }

  /** @param environment and options: as for `startService` */
  static async open(environment: Environment = {}, options: Options = {}): Promise<Stage> {
    const database = await createTestDatabase();
    return new Stage(database, await startService(database.url, environment, options));
  }

  get pool(): Pool {
    return this.database.pool;
  }

  get cursor(): number {
    return this.service.hub.cursor;
  }

  /** One more service on the same database. */
  async addService(environment: Environment = {}, options: Options = {}): Promise<Service> {
    const service = await startService(this.database.url, environment, options);
    this.#services.push(service);
    return service;
  }

  /** Opens a stream and resolves with the head of the response. */
  async connect(
    path: string,
    token?: string,
    headers?: Record<string, string>,
    service: Service = this.service,
  ): Promise<SseClient> {
    const client = await SseClient.open(service.url + path, token, headers);
    this.#clients.push(client);
    return client;
  }

  /** One request as it is: whatever headers, redirects and errors not followed. */
  send(
    method: string,
    path: string,
    headers: Record<string, string | string[]> = {},
    service: Service = this.service,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const call = request(service.url + path, { method, headers, agent: false }, (response) => {
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          body += chunk;
        });
        response.on('error', reject);
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
        );
      });
      call.on('error', reject);
      call.end();
    });
  }

  /** Commits so many events on a topic in one transaction, and returns when this service's hub has them. */
  async publish(topic: string, count = 1, bytes = 0): Promise<number> {
    await this.commit(topic, count, bytes);
    return this.settled();
  }

  /** Commits so many events on a topic, each with `bytes` more of data, and waits for nobody. */
  async commit(topic: string, count = 1, bytes = 0): Promise<void> {
    await this.pool.query(
      `select outbox_publish($1, 'test:happened', json_build_object('n', n, 'pad', repeat('x', $3)))
         from generate_series(1, $2) n`,
      [topic, count, bytes],
    );
  }

  /** Waits until a hub has everything that has been committed, and knows how much of it is left; returns the id of the last event. */
  async settled(service: Service = this.service): Promise<number> {
    const { rows } = await this.pool.query<{ head: number; oldest: number }>(
      'select outbox_head() as head, outbox_oldest() as oldest',
    );
    const { head, oldest } = rows[0] ?? { head: 0, oldest: 0 };
    // A relay that was rung hands on the events with one read, and learns the rest with the next.
    await waitFor(() => service.hub.cursor >= head && service.hub.history.oldest >= oldest, {
      what: `the hub's cursor at ${head}, its oldest at ${oldest}`,
      timeoutMs: 10_000,
    });
    return head;
  }

  closeClients(): void {
    for (const client of this.#clients.splice(0)) client.close();
  }

  async close(): Promise<void> {
    this.closeClients();
    await Promise.all(this.#services.map((service) => service.stop()));
    await this.database.drop();
  }
}
