import type { Server } from 'node:http';
import type { Socket } from 'node:net';

/*
 * The public port of a worker. Its supervisor listens and gives it connections (src/cluster/door.ts); the server here listens nowhere,
 * and takes what it is given for its own: https://nodejs.org/api/http.html#event-connection
 */

/** Connections that linger at the end are cut after so long, in milliseconds. */
const LINGER_MS = 1000;

export class GivenConnections {
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  #emptied: () => void = () => {};

  constructor(server: Server) {
    this.#server = server;
  }

  /** Makes it ready to take them. */
  start(): void {
    // A server's time-outs for headers and requests run from here on, and whoever looks after its sockets begins to.
    this.#server.emit('listening');
  }

  /** @param socket nothing of which has been read */
  take(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      if (this.#open.size === 0) this.#emptied();
    });
    // As node:http has it for connections that it accepts itself.
    socket.allowHalfOpen = true;
    this.#server.emit('connection', socket);
  }

  /**
   * Begins to let go of them: whoever keeps a connection for the next request makes a new one, which gets to another worker.
   * What is being answered is.
   */
  leave(): void {
    this.#server.prependListener('request', (_request, response) => {
      response.shouldKeepAlive = false;
    });
    this.#server.closeIdleConnections();
  }

  /** Resolves when all have been closed; those that linger after a second are cut. */
  async close(): Promise<void> {
    this.#server.close();
    if (this.#open.size > 0)
      await new Promise<void>((resolve) => {
        const cut = setTimeout(resolve, LINGER_MS);
        this.#emptied = () => {
          clearTimeout(cut);
          resolve();
        };
      });
    for (const socket of this.#open) socket.destroy();
  }
}
