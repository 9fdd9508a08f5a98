import { once } from 'node:events';
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from 'node:net';

/** The beginning of a block of an event; control messages have no colon in their type. */
const BLOCK = /event: [a-z]+:/;

/** A TCP proxy in front of a service that can cut a connection inside a block, after so many of its bytes. */
export class CuttingProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #offset: number | undefined;
  /** Connections cut so far. */
  cuts = 0;

  private constructor(targetPort: number) {
    this.#server = createServer((socket) => this.#forward(socket, targetPort));
  }

  static async start(targetUrl: string): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(Number(new URL(targetUrl).port));
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Cuts, once, the next connection over which an event comes: after `offset` bytes of the event's block. */
  cutAt(offset: number): void {
    this.#offset = offset;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #forward(client: Socket, targetPort: number): void {
    const service = dial(targetPort, '127.0.0.1');
    for (const socket of [client, service]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        service.destroy();
      });
    }
    client.on('data', (bytes) => service.write(bytes));
    // Latin-1: one character per byte, so that an index into the text is one into the bytes.
    service.on('data', (bytes) => {
      const start = this.#offset === undefined ? -1 : bytes.toString('latin1').search(BLOCK);
      if (start < 0 || this.#offset === undefined) {
        client.write(bytes);
        return;
      }
      const kept = bytes.subarray(0, start + this.#offset);
      this.#offset = undefined;
      this.cuts += 1;
      service.removeAllListeners('data');
      client.end(kept, () => service.destroy());
    });
    service.on('end', () => client.end());
  }
}
