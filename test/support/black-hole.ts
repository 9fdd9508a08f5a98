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
  /** The last bytes that the server said; empty once the client has answered. */
  said: Buffer;
  /** A statement of the proxy's own is being answered: what the client says meanwhile waits. */
  aside: { held: Buffer[]; done: () => void } | undefined;
}

/** ReadyForQuery, outside a transaction: https://www.postgresql.org/docs/current/protocol-message-formats.html */
const IDLE = Buffer.from('5a0000000549', 'hex');

/**
 * A TCP proxy in front of Postgres that can swallow what goes through it, without a word to either side: nobody is told that
 * a connection has closed, and new ones are accepted and never answered. It can also cut and refuse connections, move the server
 * away, and put in a word of its own, as a pooler does.
 */
export class BlackHole {
  readonly #server: Server;
  readonly #target: URL;
  readonly #pairs = new Set<Pair>();
  #hole: Hole | undefined;
  #refused: RegExp | undefined;
  #far: { readonly application: RegExp; readonly ms: number } | undefined;

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

  /** Whether something of what a connection is to be told comes late. */
  holds(application: string): boolean {
    return [...this.#pairs].some((pair) => pair.application === application && pair.late.length > 0);
  }

  swallow(hole: Hole): void {
    this.#hole = hole;
  }

  /** What the server says to connections whose application_name matches takes so many milliseconds. */
  moveAway(application: RegExp, ms: number): void {
    this.#far = { application, ms };
  }

  /** Cuts the connections whose application_name matches, and refuses new ones. */
  refuse(application: RegExp): void {
    this.#refused = application;
    for (const pair of this.#pairs) if (application.test(pair.application ?? '')) this.#close(pair);
  }

  /** Has a statement run on a client's session behind its back; false if there is no such session that waits for its client. */
  async interject(application: string, sql: string): Promise<boolean> {
    const pair = [...this.#pairs].find(
      (one) =>
        one.application === application && !one.lost && one.aside === undefined && one.said.equals(IDLE),
    );
    if (pair === undefined) return false;
    await new Promise<void>((done) => {
      pair.aside = { held: [], done };
      const text = Buffer.from(`${sql}\0`);
      const head = Buffer.from('Q\0\0\0\0');
      head.writeInt32BE(text.length + 4, 1);
      pair.server.write(Buffer.concat([head, text]));
    });
    return true;
  }

  /** Lets new connections through, and old ones that have lost nothing. */
  heal(): void {
    this.#hole = undefined;
    this.#refused = undefined;
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
    const pair: Pair = {
      client,
      server,
      application: undefined,
      lost: false,
      late: [],
      said: Buffer.of(),
      aside: undefined,
    };
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
      if (this.#refused?.test(pair.application) === true) this.#close(pair);
      else if (pair.aside !== undefined) pair.aside.held.push(bytes);
      else {
        pair.said = Buffer.of();
        this.#forward(pair, bytes, server, 'to-server');
      }
    });
    server.on('data', (bytes) => {
      pair.said = Buffer.concat([pair.said, bytes]).subarray(-IDLE.length);
      if (pair.aside === undefined) this.#forward(pair, bytes, client, 'to-client');
      else if (pair.said.equals(IDLE)) this.#endAside(pair);
    });
  }

  #endAside(pair: Pair): void {
    const { held = [], done } = pair.aside ?? {};
    pair.aside = undefined;
    for (const bytes of held) {
      pair.said = Buffer.of();
      this.#forward(pair, bytes, pair.server, 'to-server');
    }
    done?.();
  }

  #forward(pair: Pair, bytes: Buffer, to: Socket, direction: Direction): void {
    if (pair.lost) return;
    if (!this.#swallows(pair, direction)) this.#deliver(pair, bytes, to);
    else if (this.#hole?.late === true) pair.late.push({ to, bytes });
    else pair.lost = true;
  }

  #deliver({ application, client }: Pair, bytes: Buffer, to: Socket): void {
    const far = this.#far;
    if (to !== client || far === undefined || !far.application.test(application ?? '')) to.write(bytes);
    else setTimeout(() => to.write(bytes), far.ms);
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
    pair.aside?.done();
  }
}

/** The application_name in a start-up message: https://www.postgresql.org/docs/current/protocol-message-formats.html */
function applicationOf(bytes: Buffer): string {
  const words = bytes.toString('latin1', 8).split('\0');
  return words[words.indexOf('application_name') + 1] ?? '';
}
