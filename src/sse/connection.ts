import type { ServerResponse } from 'node:http';
import type { Sink } from '../hub/subscriber.ts';

/** `text/event-stream` and what keeps proxies from storing, compressing or holding it back. */
export function streamHeaders(cursor?: number): Record<string, string> {
  return {
    'Content-Type': 'text/event-stream; charset=utf-8',
    'Cache-Control': 'no-store, no-transform',
    'X-Accel-Buffering': 'no',
    ...(cursor === undefined ? {} : { 'Last-Event-ID': String(cursor) }),
  };
}

export interface ConnectionOptions {
  /** A socket with bytes waiting that takes none for so long is cut off, in milliseconds. */
  readonly stallMs: number;
  /** Called once when the connection has gone, however it went; `stalled` if it was cut off. */
  readonly onClose: (stalled: boolean) => void;
}

/** Sockets that vanish without a word are probed by the kernel after so long, in milliseconds. */
const KEEP_ALIVE_MS = 30_000;

/**
 * The response of one SSE subscriber: where its bytes go and how fast they go.
 *
 * The socket's idle time-out runs; Node starts it anew with each write and whenever the kernel has taken some of one. It counts
 * only if bytes wait, however few: so a peer without any progress is cut off, and a quiet stream is not.
 */
export class Connection implements Sink {
  readonly #response: ServerResponse;
  readonly #options: ConnectionOptions;
  #closed = false;
  #stalled = false;

  constructor(response: ServerResponse, options: ConnectionOptions) {
    this.#response = response;
    this.#options = options;
    response.once('close', () => this.#close());
    response.on('error', () => {});
    response.setTimeout(options.stallMs);
    response.on('timeout', () => {
      if (response.writableLength === 0) return;
      this.#stalled = true;
      response.destroy();
    });
    response.socket?.setKeepAlive(true, KEEP_ALIVE_MS);
  }

  get buffered(): number {
    return this.#response.writableLength;
  }

  write(bytes: Buffer): void {
    if (this.#closed || this.#response.writableEnded) return;
    this.#response.write(bytes);
  }

  async drained(): Promise<void> {
    const response = this.#response;
    if (this.#closed || !response.writableNeedDrain) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        response.off('drain', done);
        response.off('close', done);
        resolve();
      };
      response.on('drain', done);
      response.on('close', done);
    });
  }

  end(bytes: Buffer): void {
    if (this.#closed || this.#response.writableEnded) return;
    this.#response.end(bytes);
  }

  #close(): void {
    this.#closed = true;
    this.#options.onClose(this.#stalled);
  }
}
