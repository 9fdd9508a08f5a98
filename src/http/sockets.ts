import type { Server } from 'node:http';
import type { Socket } from 'node:net';

export interface SocketsOptions {
  /** Most connections that carry no stream. */
  readonly maxWithoutStream: number;
  /** How many carry one. */
  readonly streams: () => number;
}

/**
 * The connections of a server. Streams have a limit of their own; of the others, when there are too many, the one that has
 * waited longest for a request (or sent one least quickly) is cut, so that whoever opens connections and says nothing pushes out
 * their own. If all of them are being answered, the new one is cut.
 */
export class Sockets {
  readonly #options: SocketsOptions;
  /** In the order in which they began to wait. */
  readonly #waiting = new Set<Socket>();
  /** How many requests of each are being answered; more than one if they are pipelined. */
  readonly #answering = new Map<Socket, number>();
  #evictions = 0;

  constructor(server: Server, options: SocketsOptions) {
    this.#options = options;
    server.on('connection', (socket) => this.#opened(socket));
    server.on('request', (request, response) => {
      const { socket } = request;
      this.#waiting.delete(socket);
      this.#answering.set(socket, (this.#answering.get(socket) ?? 0) + 1);
      response.once('close', () => this.#answered(socket));
    });
  }

  get open(): number {
    return this.#waiting.size + this.#answering.size;
  }

  /** All that are open. */
  *[Symbol.iterator](): Generator<Socket> {
    yield* this.#waiting;
    yield* this.#answering.keys();
  }

  /** Connections cut because there were too many. */
  get evictions(): number {
    return this.#evictions;
  }

  /** Whether a request of this connection is being answered. */
  isAnswering(socket: Socket): boolean {
    return this.#answering.has(socket);
  }

  #opened(socket: Socket): void {
    this.#waiting.add(socket);
    socket.once('close', () => {
      this.#waiting.delete(socket);
      this.#answering.delete(socket);
    });
    if (this.open - this.#options.streams() <= this.#options.maxWithoutStream) return;
    this.#evictions += 1;
    const [longest = socket] = this.#waiting;
    this.#waiting.delete(longest);
    longest.destroy();
  }

  #answered(socket: Socket): void {
    const left = (this.#answering.get(socket) ?? 0) - 1;
    if (left > 0) this.#answering.set(socket, left);
    else if (this.#answering.delete(socket) && !socket.destroyed) this.#waiting.add(socket);
  }
}
