import { createServer, type Server, type Socket } from 'node:net';
import { listen, urlOf } from '../http/listening.ts';
import type { Member, MemberState } from './member.ts';

/*
 * The public port of an instance of several workers. The supervisor accepts each connection and gives it, unread, to the worker that
 * has the fewest: a stream stays for an hour, so what counts is how many a worker has, not whose turn it is; a new worker is
 * filled up by those who come, and one that is on its way out, or does not take what it was given, gets none.
 *
 * It is not left to node:cluster, which could share the port as well, because a connection must survive the worker that it was given
 * to: node:cluster forgets one whose worker dies before it has answered for it, and the client waits for ever (docs/decisions/0007).
 * Here it stays open until the worker has said that it took it, and is given to another one if it never says so.
 */

export interface DoorOptions {
  readonly members: () => Iterable<Member>;
  /** Most connections that may wait for a worker to take them. */
  readonly maxWaiting: number;
}

/** Who is given connections, the best first. Those who leave still tell whoever comes to come again, if there is nobody else. */
const PREFERRED: readonly MemberState[] = ['ready', 'starting', 'leaving'];

/** Whoever has not taken a connection for so long gets no others as long as somebody else does, in milliseconds. */
const SILENT_MS = 500;

/** State, silence, connections. */
type Rank = readonly [number, number, number];

function isLess(one: Rank, other: Rank): boolean {
  const differs = one.findIndex((part, index) => part !== other[index]);
  return differs >= 0 && (one[differs] ?? 0) < (other[differs] ?? 0);
}

export class Door {
  readonly #options: DoorOptions;
  readonly #server: Server;
  #dropped = 0;

  constructor(options: DoorOptions) {
    this.#options = options;
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
      // Nothing is read or written here; an error comes with the close.
      socket.on('error', () => {});
      this.give(socket);
    });
  }

  get url(): string {
    return urlOf(this.#server);
  }

  /** Connections that no worker has taken yet. */
  get waiting(): number {
    let waiting = 0;
    for (const { offered } of this.#options.members()) waiting += offered;
    return waiting;
  }

  /** Connections closed because no worker was there, or too many were waiting for one. */
  get dropped(): number {
    return this.#dropped;
  }

  /** @throws if the port is taken, or the address is not this machine's */
  listen(port: number, host: string): Promise<void> {
    return listen(this.#server, port, host);
  }

  /** Gives a connection to the worker with the fewest. */
  give(socket: Socket): void {
    const member = this.waiting < this.#options.maxWaiting ? this.#choose() : undefined;
    if (member === undefined) {
      this.#dropped += 1;
      socket.destroy();
    } else member.offer(socket);
  }

  #choose(): Member | undefined {
    let best: Member | undefined;
    let least: Rank = [PREFERRED.length, 0, 0];
    for (const member of this.#options.members()) {
      const state = PREFERRED.indexOf(member.state);
      const rank: Rank = [state, Number(member.silentMs > SILENT_MS), member.connections];
      if (state < 0 || !isLess(rank, least)) continue;
      least = rank;
      best = member;
    }
    return best;
  }

  /** Nobody comes in any more; those who are in are their workers' business. */
  close(): void {
    this.#server.close();
  }
}
