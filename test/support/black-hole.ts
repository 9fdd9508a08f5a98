import { once } from 'node:events';
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from 'node:net';

/** Which way the bytes go that are swallowed. */
export type Direction = 'to-server' | 'to-client' | 'both';

/** What is swallowed, and of whom. */
export interface Hole {
  /** Connections whose application_name matches. */
  readonly application: RegExp;
  readonly direction: Direction;
  /** The bytes come later, as after a broken link that is repaired in time; else they never come, as when a firewall has forgotten the connection. */
  readonly late?: boolean;
}

/** One connection through the proxy. */
interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  application: string | undefined;
  /** Bytes of it were lost: it can never make sense again. */
  lost: boolean;
  readonly late: { to: Socket; bytes: Buffer }[];
}

/**
 * A TCP proxy in front of Postgres that can swallow what goes through it, without a word to either side: nobody is told that
 * a connection has closed, and new ones are accepted and never answered.
 */
export class BlackHole {
  readonly #server: Server;
  readonly #target: URL;
  readonly #pairs = new Set<Pair>();
  #hole: Hole | undefined;

  private constructor(target: URL) {
    this.#target = target;
    this.#server = createServer((client) => this.#pass(client));
  }

  /** @param databaseUrl where it leads */
  static async before(databaseUrl: string): Promise<BlackHole> {
    const proxy = new BlackHole(new URL(databaseUrl));
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  /** The database's URL through the proxy. */
  get url(): string {
    const url = new URL(this.#target);
    url.hostname = '127.0.0.1';
    url.port = String((this.#server.address() as AddressInfo).port);
    return url.href;
  }

  /** Connections that are open on both sides and have lost nothing, by application_name. */
  healthy(application: string): number {
    return [...this.#pairs].filter(
      (pair) => pair.application === application && !pair.lost && !pair.client.destroyed,
    ).length;
  }

  swallow(hole: Hole): void {
    this.#hole = hole;
  }

  /** Lets new connections through, and old ones that have lost nothing. */
  heal(): void {
    this.#hole = undefined;
    for (const pair of this.#pairs) {
      for (const { to, bytes } of pair.late.splice(0)) to.write(bytes);
      if (pair.client.destroyed || pair.server.destroyed) this.#close(pair);
    }
  }

  async stop(): Promise<void> {
    for (const pair of this.#pairs) this.#close(pair);
    this.#server.close();
    await once(this.#server, 'close');
  }

  #pass(client: Socket): void {
    const server = dial(Number(this.#target.port || 5432), this.#target.hostname);
    const pair: Pair = { client, server, application: undefined, lost: false, late: [] };
    this.#pairs.add(pair);
    for (const socket of [client, server]) {
      socket.setNoDelay(true);
      socket.on('error', () => {});
      socket.on('close', () => {
        if (!this.#swallows(pair, 'both')) this.#close(pair);
      });
    }
    client.on('data', (bytes) => {
      pair.application ??= applicationOf(bytes);
      this.#forward(pair, bytes, server, 'to-server');
    });
    server.on('data', (bytes) => this.#forward(pair, bytes, client, 'to-client'));
  }

  #forward(pair: Pair, bytes: Buffer, to: Socket, direction: Direction): void {
    if (pair.lost) return;
    if (!this.#swallows(pair, direction)) to.write(bytes);
    else if (this.#hole?.late === true) pair.late.push({ to, bytes });
    else pair.lost = true;
  }

  #swallows({ application }: Pair, direction: Direction): boolean {
    const hole = this.#hole;
    if (hole === undefined || application === undefined || !hole.application.test(application)) return false;
    return hole.direction === 'both' || direction === 'both' || hole.direction === direction;
  }

  #close(pair: Pair): void {
    this.#pairs.delete(pair);
    pair.client.destroy();
    pair.server.destroy();
  }
}

/** The application_name in a start-up message: https://www.postgresql.org/docs/current/protocol-message-formats.html */
function applicationOf(bytes: Buffer): string {
  const words = bytes.toString('latin1', 8).split('\0');
  return words[words.indexOf('application_name') + 1] ?? '';
}
