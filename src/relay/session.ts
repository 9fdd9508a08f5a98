import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { ClientConfig } from 'pg';

export interface SessionOptions {
  /** A direct connection: LISTEN and session locks do not survive a transaction-pooling proxy. */
  readonly connectionString: string;
  readonly applicationName: string;
  /** In which the connection must stand. */
  readonly connectTimeoutMs: number;
  /** In which a query must be answered. */
  readonly queryTimeoutMs: number;
}

const LONGEST_PAUSE_MS = 2000;
const FAREWELL_MS = 250;

/** How one session of the relay is opened and ended: on a socket of our own, so that one that no longer answers is torn down without its consent. */
export class SessionSocket {
  readonly config: ClientConfig;
  readonly #socket = new Socket();

  constructor({ connectionString, applicationName, connectTimeoutMs, queryTimeoutMs }: SessionOptions) {
    this.config = {
      connectionString,
      application_name: applicationName,
      keepAlive: true,
      connectionTimeoutMillis: connectTimeoutMs,
      query_timeout: queryTimeoutMs,
      stream: () => this.#socket,
    };
  }

  /** @param farewell the polite end, which is not waited for for long */
  async end(farewell: Promise<void>): Promise<void> {
    await Promise.race([farewell.catch(() => {}), delay(FAREWELL_MS)]);
    this.#socket.destroy();
  }
}

/** Waits before the next attempt to connect, longer after each that was in vain. */
export async function pauseAfter(failures: number, signal: AbortSignal): Promise<void> {
  const ms = Math.min(50 * 2 ** Math.min(failures, 10), LONGEST_PAUSE_MS);
  await delay(ms, undefined, { signal }).catch(() => {});
}
