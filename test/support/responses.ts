import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { ServerResponse } from 'node:http';

const CHANNEL = 'http.server.request.start';

/** The responses that servers of this process are giving, seen through Node's own diagnostics channel. */
export class Responses {
  readonly #open = new Set<ServerResponse>();
  readonly #onRequest = (message: unknown): void => {
    const { response } = message as { response: ServerResponse };
    this.#open.add(response);
    response.once('close', () => this.#open.delete(response));
  };

  /** Begins to watch: responses of requests from now on. */
  constructor() {
    subscribe(CHANNEL, this.#onRequest);
  }

  /** Responses that have not closed. */
  get open(): number {
    return this.#open.size;
  }

  /** Bytes that wait for the slowest socket. */
  get waiting(): number {
    return Math.max(0, ...[...this.#open].map(({ writableLength }) => writableLength));
  }

  stop(): void {
    unsubscribe(CHANNEL, this.#onRequest);
  }
}
