import type { Service } from '../../src/service.ts';
import { SseClient } from './sse-client.ts';

/** A client that drops and resumes with Last-Event-ID, as an `EventSource` does, and keeps every id that it was given. */
export class Follower {
  readonly #path: string;
  readonly #token: string;
  readonly #ids: number[] = [];
  #client: SseClient | undefined;
  #lastEventId: string | undefined;
  resumes = 0;

  constructor(path: string, token: string) {
    this.#path = path;
    this.#token = token;
  }

  /** All ids of events so far, over all connections, in the order in which they came. */
  get ids(): number[] {
    return [...this.#ids, ...(this.#client?.ids ?? [])];
  }

  /** The cursor at which it began. */
  start = 0;

  /** Connects, from where it was. */
  async connect(service: Service): Promise<void> {
    const headers: Record<string, string> =
      this.#lastEventId === undefined ? {} : { 'Last-Event-ID': this.#lastEventId };
    this.#client = await SseClient.open(service.url + this.#path, this.#token, headers);
    const session = await this.#client.message('session');
    if (this.#lastEventId === undefined) {
      this.start = Number(session.data['cursor']);
      this.#lastEventId = String(this.start);
    } else this.resumes += 1;
  }

  /** Cuts the connection, wherever it is; what came in whole is kept. */
  drop(): void {
    const client = this.#client;
    if (client === undefined) return;
    client.close();
    this.#client = undefined;
    this.#ids.push(...client.ids);
    this.#lastEventId = client.lastEventId ?? this.#lastEventId;
    if (client.messages.some(({ type }) => type === 'reset')) throw new Error('it was reset');
  }

  get connected(): boolean {
    return this.#client !== undefined && !this.#client.ended;
  }
}
