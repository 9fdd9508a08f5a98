import type { ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Sink } from '../hub/sink.ts';
import { type Chunk, LAST_CHUNK } from './chunk.ts';
import { descriptorOf, mayWriteNow, NO_DESCRIPTOR, writeNow } from './direct-write.ts';
import { takeSocket } from './wire.ts';
import type { WriteBatch, Writer } from './write-batch.ts';

/** `text/event-stream` and what keeps proxies from storing, compressing or holding it back; nothing follows it on its connection. */
export function streamHeaders(cursor?: number): Record<string, string> {
  return {
    'Content-Type': 'text/event-stream; charset=utf-8',
    'Cache-Control': 'no-store, no-transform',
    'X-Accel-Buffering': 'no',
    Connection: 'close',
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
const NOTHING = Buffer.alloc(0);
/** A peer that has been told to come again has so long to take its last bytes; what it does not take is replayed to it. */
const LINGER_MS = 1000;

/**
 * The connection of one SSE subscriber: where its bytes go and how fast they go. See wire.ts for what it does below node:http, and
 * direct-write.ts for what it does below the socket's stream.
 *
 * While bytes wait, however few, the socket's idle time-out runs; Node starts it anew with each write and whenever the kernel has
 * taken some of one. So a peer without any progress is cut off, a quiet stream is not, and a write that the kernel takes whole,
 * as nearly all are, has no timer to touch.
 */
export class Connection implements Sink, Writer {
  readonly #socket: Socket;
  readonly #chunked: boolean;
  readonly #options: ConnectionOptions;
  #descriptor = NO_DESCRIPTOR;
  /** The batch it was in last, and when: see {@link WriteBatch.round}. */
  #batch: WriteBatch | undefined;
  #round = 0;
  /** Of the bytes that wait in part, those that do not: they are in memory as long as the others. */
  #taken = 0;
  /** Until the socket has been taken from it. */
  #response: ServerResponse | undefined;
  #state: 'open' | 'ended' | 'closed' = 'open';
  /** The idle time-out runs. */
  #watched = false;
  #stalled = false;
  readonly #untilDrained: (() => void)[] = [];
  #lingers: NodeJS.Timeout | undefined;

  /**
   * Sends the response's head.
   * @param response with `streamHeaders`, its turn on its connection come
   */
  constructor(response: ServerResponse, options: ConnectionOptions) {
    const { socket } = response;
    if (socket === null) throw new Error('the turn of this response has not come');
    this.#socket = socket;
    this.#response = response;
    this.#options = options;
    // The head and what is written in this turn go out together.
    socket.cork();
    process.nextTick(() => socket.uncork());
    response.flushHeaders();
    this.#chunked = response.chunkedEncoding;
    // node:http cuts off whatever times out and has nobody to ask.
    response.on('timeout', () => {});
    socket.once('close', () => this.#close());
    this.#listen();
    this.#watch(options.stallMs);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    setImmediate(() => this.#takeSocket());
  }

  get buffered(): number {
    const { writableLength } = this.#socket;
    return writableLength === 0 ? 0 : writableLength + this.#taken;
  }

  write(chunk: Chunk, batch?: WriteBatch): void {
    if (this.#state !== 'open') return;
    this.#leaveBatch();
    const bytes = this.#chunked ? chunk.framed : chunk.bytes;
    if (!mayWriteNow(this.#socket, this.#descriptor)) {
      this.writeRest(bytes, 0);
    } else if (batch !== undefined) {
      batch.add(this.#descriptor, bytes, this);
      this.#batch = batch;
      this.#round = batch.round;
    } else {
      const taken = writeNow(this.#descriptor, bytes);
      if (taken < bytes.length) this.writeRest(bytes, taken);
    }
  }

  /** What waits in a batch goes before anything else. */
  #leaveBatch(): void {
    if (this.#batch?.round === this.#round) this.#batch.flush();
  }

  /** What the kernel does not take at once waits in the socket's stream. */
  writeRest(bytes: Buffer, taken: number): void {
    if (this.#socket.writableLength === 0) this.#taken = taken;
    this.#socket.write(taken === 0 ? bytes : bytes.subarray(taken));
    if (!this.#watched && this.#socket.writableLength > 0) this.#watch(this.#options.stallMs);
  }

  async drained(): Promise<void> {
    if (this.#state === 'closed' || this.#socket.writableLength === 0) return;
    await new Promise<void>((resolve) => {
      this.#untilDrained.push(resolve);
      // Nobody says when little has drained, and how much is little depends on the version of Node: what is written after it does.
      if (!this.#socket.writableNeedDrain) this.#socket.write(NOTHING, () => this.#releaseDrained());
    });
  }

  end(chunk: Chunk): void {
    if (this.#state !== 'open') return;
    this.write(chunk);
    this.#state = 'ended';
    if (this.#chunked) this.#socket.write(LAST_CHUNK);
    this.#socket.destroySoon();
    this.#lingers = setTimeout(() => this.#cutOff(), Math.min(this.#options.stallMs, LINGER_MS));
  }

  cut(): void {
    this.#socket.destroy();
  }

  #takeSocket(): void {
    const response = this.#response;
    this.#response = undefined;
    if (response === undefined || this.#socket.destroyed || takeSocket(response) === undefined) return;
    const socket = this.#socket;
    this.#descriptor = descriptorOf(socket);
    this.#listen();
    socket.on('error', () => {});
    // A client that has asked for a stream has nothing more to say.
    socket.on('end', () => socket.destroy());
    socket.on('data', () => socket.destroy());
    socket.resume();
  }

  #listen(): void {
    this.#socket.on('drain', () => this.#releaseDrained());
    this.#socket.on('timeout', () => {
      if (this.#socket.writableLength > 0) this.#cutOff();
      else this.#watch(0);
    });
  }

  /** @param idleMs 0 for not at all */
  #watch(idleMs: number): void {
    this.#watched = idleMs > 0;
    this.#socket.setTimeout(idleMs);
  }

  #cutOff(): void {
    this.#stalled = true;
    this.#socket.destroy();
  }

  #close(): void {
    this.#state = 'closed';
    this.#response = undefined;
    clearTimeout(this.#lingers);
    this.#releaseDrained();
    this.#options.onClose(this.#stalled);
  }

  #releaseDrained(): void {
    for (const resolve of this.#untilDrained.splice(0)) resolve();
  }
}
