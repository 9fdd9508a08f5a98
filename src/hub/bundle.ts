import { Chunk } from '../sse/chunk.ts';
import type { Frame } from '../sse/frame.ts';

/**
 * The frames of one topic in a batch, or all of it, in the order of their ids. Whoever takes a bundle whole, and that is nearly
 * everybody, gets one buffer that is joined once, at the cost of one comparison for all its frames.
 */
export class Bundle {
  readonly first: Frame;
  readonly last: Frame;
  /** Bytes of all frames. */
  readonly length: number;
  #joined: Chunk | undefined;

  /**
   * @param frames at least one
   * @throws RangeError if there is none
   */
  constructor(readonly frames: readonly Frame[]) {
    const [first] = frames;
    if (first === undefined) throw new RangeError('a bundle of nothing');
    this.first = first;
    this.last = frames.at(-1) ?? first;
    this.length = frames.reduce((sum, { chunk }) => sum + chunk.length, 0);
  }

  /** All frames as one chunk. */
  chunk(): Chunk {
    this.#joined ??= Chunk.join(this.frames.map(({ chunk }) => chunk));
    return this.#joined;
  }
}
