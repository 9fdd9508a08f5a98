import { readFile } from 'node:fs/promises';
import { type Socket, SocketAddress } from 'node:net';
import { endianness } from 'node:os';

/*
 * A client that vanishes without a word (a laptop that is shut, a phone in a tunnel, a firewall that forgets) acknowledges nothing.
 * Keep-alive probes do not notice while a heartbeat is on its way: the kernel sends that again instead, at longer and longer
 * intervals, for a quarter of an hour. Until then the stream holds one of its actor's places, and a person whose network comes and
 * goes would use them up. Node cannot set TCP_USER_TIMEOUT; but Linux shows how often it has sent the same bytes again in vain
 * (https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html, retrnsmt), which is what that option goes by. So whoever has not
 * answered `retries` times is cut off: with 6 and a short round trip after about 13 s, since the first interval is 0.2 s and each
 * is twice the one before. On other systems the kernel's own time holds.
 */

export interface DeadPeersOptions {
  /** The sockets to look after. */
  readonly sockets: () => Iterable<Socket>;
  /** Times that the kernel has sent the same bytes again without an answer; 0: nobody is cut off. */
  readonly retries: number;
  readonly intervalMs: number;
  /** The kernel's tables, for IPv4 and IPv6. */
  readonly tables?: readonly string[];
}

const TABLES = ['/proc/self/net/tcp', '/proc/self/net/tcp6'];

/** Cuts off clients that have vanished. */
export class DeadPeers {
  readonly #options: DeadPeersOptions;
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #cut = 0;

  constructor(options: DeadPeersOptions) {
    this.#options = options;
  }

  /** Cut off so far. */
  get cut(): number {
    return this.#cut;
  }

  start(): void {
    if (this.#options.retries === 0 || this.#timer !== undefined) return;
    this.#timer = setInterval(() => {
      this.#looking ??= this.look().finally(() => {
        this.#looking = undefined;
      });
    }, this.#options.intervalMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    await this.#looking;
  }

  /** Looks once. */
  async look(): Promise<void> {
    const silent = new Set<string>();
    for (const table of this.#options.tables ?? TABLES) {
      // No such table: no Linux, or no IPv6.
      const text = await readFile(table, 'latin1').catch(() => '');
      for (const pair of silentPairs(text, this.#options.retries)) silent.add(pair);
    }
    if (silent.size === 0) return;
    for (const socket of this.#options.sockets()) {
      if (!silent.has(pairOf(socket))) continue;
      this.#cut += 1;
      socket.destroy();
    }
  }
}

/** `local remote` of the connections in a table that have not been answered so many times. */
export function* silentPairs(table: string, retries: number): Generator<string> {
  for (const line of table.split('\n')) {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt; 01 is ESTABLISHED.
    const [, local = '', remote = '', state, , , retransmits = '0'] = line.trim().split(/\s+/);
    if (state === '01' && Number.parseInt(retransmits, 16) >= retries)
      yield `${endpoint(local)} ${endpoint(remote)}`;
  }
}

function pairOf({ localAddress = '', localPort, remoteAddress = '', remotePort }: Socket): string {
  return `${plain(localAddress)}:${localPort} ${plain(remoteAddress)}:${remotePort}`;
}

/** `0100007F:1F90`, the address in words of the machine's byte order, as address:port. */
function endpoint(text: string): string {
  const [words = '', port = ''] = text.split(':');
  const bytes = Buffer.from(words, 'hex');
  if (endianness() === 'LE') bytes.swap32();
  if (bytes.length === 4) return `${bytes.join('.')}:${Number.parseInt(port, 16)}`;
  const address = (bytes.toString('hex').match(/.{4}/g) ?? []).join(':');
  return `${plain(address)}:${Number.parseInt(port, 16)}`;
}

/** An address in its one form; an IPv4 address on an IPv6 socket as IPv4, without a zone. */
function plain(address: string): string {
  const bare = address.replace(/%.*/, '');
  if (!bare.includes(':')) return bare;
  return new SocketAddress({ address: bare, family: 'ipv6' }).address.replace(/^::ffff:(?=[\d.]+$)/, '');
}
