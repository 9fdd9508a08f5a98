import { Chunk } from '../sse/chunk.ts';
import type { Frame } from '../sse/frame.ts';

/**
 * The frames that one or more subscribers are to get in one write. Subscribers that take the same frames in the same order
 * hold the same object and so share one buffer: following a frame costs a subscriber one comparison and no memory.
 */
export class SharedBytes {
  readonly #before: SharedBytes | undefined;
  readonly #frame: Frame | undefined;
  readonly length: number;
  #follower: SharedBytes | undefined;
  #joined: Chunk | undefined;

  constructor(before?: SharedBytes, frame?: Frame) {
    this.#before = before;
    this.#frame = frame;
    this.length = before === undefined || frame === undefined ? 0 : before.length + frame.chunk.length;
  }

  /** These frames and one more. Frames come in the order of their ids, so the newest follower is the only one that can recur. */
  follow(frame: Frame): SharedBytes {
    if (this.#follower === undefined || this.#follower.#frame !== frame)
      this.#follower = new SharedBytes(this, frame);
    return this.#follower;
  }

  /** All of them as one chunk, joined once. */
  chunk(): Chunk {
    if (this.#joined === undefined) {
      const parts: Chunk[] = [];
      for (let at: SharedBytes | undefined = this; at !== undefined; at = at.#before) {
        if (at.#frame !== undefined) parts.push(at.#frame.chunk);
      }
      this.#joined = Chunk.join(parts.reverse());
    }
    return this.#joined;
  }
}
