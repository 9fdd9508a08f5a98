import type { AccessChange } from '../outbox/access-change.ts';
import { Chunk } from '../sse/chunk.ts';
import type { Frame } from '../sse/frame.ts';
import { indexAfter } from './index-after.ts';

/** Room for payloads and topics, in bytes, and for events. */
const BLOCK_BYTES = 65_536;
const BLOCK_EVENTS = 256;

/**
 * Some frames, one after the other, as bytes and numbers outside the heap of JavaScript: kept as objects, every event would live long enough
 * to be moved twice and to die where only a full collection finds it, and those stop everybody (decision 0013). They are made into frames
 * again when somebody asks; whoever asks at about the same time gets the same ones.
 */
export class FrameBlock {
  /** Payloads from the front, topics from the back. */
  readonly #bytes: Buffer;
  readonly #ids = new Float64Array(BLOCK_EVENTS);
  /** Where each payload ends. */
  readonly #ends = new Uint32Array(BLOCK_EVENTS);
  /** Where each topic begins; it ends where the one before begins. */
  readonly #topics = new Uint32Array(BLOCK_EVENTS);
  /** What the few of them that change access change, by index. */
  readonly #access = new Map<number, AccessChange>();
  #length = 0;
  /** Frames that were asked for, and not collected since: a beginning of all that are in here. */
  #decoded: WeakRef<Frame[]> | undefined;

  /** @param frame one for which there is to be room, however large */
  constructor({ topic, chunk }: Frame) {
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(BLOCK_BYTES, chunk.length + Buffer.byteLength(topic)));
  }

  /** Not made for a frame of unusual size: good for others. */
  get isOfUsualSize(): boolean {
    return this.#bytes.length === BLOCK_BYTES;
  }

  get length(): number {
    return this.#length;
  }

  /** Empty again. */
  clear(): void {
    this.#length = 0;
    this.#access.clear();
    this.#decoded = undefined;
  }

  /**
   * Adds a frame with a higher id than all before it.
   * @returns whether there was room for it
   */
  push({ id, topic, chunk, access }: Frame): boolean {
    const index = this.#length;
    const start = this.#endBefore(index);
    const topicAt = this.#topicEnd(index) - Buffer.byteLength(topic);
    if (index === BLOCK_EVENTS || start + chunk.length > topicAt) return false;
    chunk.copyTo(this.#bytes, start);
    this.#bytes.write(topic, topicAt);
    this.#ids[index] = id;
    this.#ends[index] = start + chunk.length;
    this.#topics[index] = topicAt;
    if (access !== undefined) this.#access.set(index, access);
    this.#length += 1;
    return true;
  }

  idAt(index: number): number {
    return this.#ids[index] ?? Number.NaN;
  }

  /** Bytes of a payload. */
  bytesAt(index: number): number {
    return (this.#ends[index] ?? Number.NaN) - this.#endBefore(index);
  }

  /** The first index with an id above this one; `length` if there is none. */
  indexAfter(id: number): number {
    return indexAfter(id, 0, this.#length, (index) => this.idAt(index));
  }

  /** All frames; the array is the block's own, and grows with it. */
  frames(): readonly Frame[] {
    const frames = this.#decoded?.deref() ?? [];
    if (frames.length < this.#length) this.#decode(frames);
    return frames;
  }

  #decode(frames: Frame[]): void {
    const from = frames.length;
    const payloads = this.#bytes.subarray(this.#endBefore(from), this.#endBefore(this.#length));
    // A copy, since the block is used again while slow sockets still hold what was written to them.
    const lengths = Array.from({ length: this.#length - from }, (_, n) => this.bytesAt(from + n));
    for (const [n, chunk] of Chunk.parts(payloads, lengths).entries()) {
      const index = from + n;
      const topic = this.#bytes.toString('utf8', this.#topics[index], this.#topicEnd(index));
      const access = this.#access.get(index);
      const frame = { id: this.idAt(index), topic, chunk };
      frames.push(access === undefined ? frame : { ...frame, access });
    }
    if (from === 0) this.#decoded = new WeakRef(frames);
  }

  #endBefore(index: number): number {
    return index === 0 ? 0 : (this.#ends[index - 1] ?? 0);
  }

  #topicEnd(index: number): number {
    return index === 0 ? this.#bytes.length : (this.#topics[index - 1] ?? 0);
  }
}
