import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

const CHANNEL = 'http.server.request.start';

/** The sockets on which servers of this process have been asked for something, seen through Node's own diagnostics channel. */
export class Responses {
  readonly #open = new Set<Socket>();
  readonly #onRequest = (message: unknown): void => {
    const { socket } = message as { socket: Socket; response: ServerResponse };
    if (this.#open.has(socket)) return;
    this.#open.add(socket);
    // Seen by those who take the socket's listeners away, too.
    const destroy = socket._destroy.bind(socket);
    socket._destroy = (error, done) => {
      this.#open.delete(socket);
      destroy(error, done);
    };
  };

  /** Begins to watch: sockets of requests from now on. */
  constructor() {
    subscribe(CHANNEL, this.#onRequest);
  }

  /** Sockets that have not closed. */
  get open(): number {
    return this.#open.size;
  }

  /** Bytes that wait for the slowest of them. */
  get waiting(): number {
    return Math.max(0, ...[...this.#open].map(({ writableLength }) => writableLength));
  }

  stop(): void {
    unsubscribe(CHANNEL, this.#onRequest);
  }
}
