import { Chunk } from '../sse/chunk.ts';
import type { Frame } from '../sse/frame.ts';

/**
 * The frames of one topic in a batch, or all of it, in the order of their ids. Whoever takes a bundle whole, and that is nearly
 * everybody, gets one buffer that is joined once, at the cost of one comparison for all its frames.
 */
export class Bundle {
  readonly #frames: Frame[];
  #length: number;
  #last: Frame;
  #joined: Chunk | undefined;

  /** @param topic undefined for those who hear every topic */
  constructor(
    readonly topic: string | undefined,
    readonly first: Frame,
  ) {
    this.#frames = [first];
    this.#last = first;
    this.#length = first.chunk.length;
  }

  /** Adds the next frame, while nobody has been offered the bundle. */
  add(frame: Frame): void {
    this.#frames.push(frame);
    this.#last = frame;
    this.#length += frame.chunk.length;
  }

  get last(): Frame {
    return this.#last;
  }

  /** At least one. */
  get frames(): readonly Frame[] {
    return this.#frames;
  }

  /** Bytes of all frames. */
  get length(): number {
    return this.#length;
  }

  /** All frames as one chunk. */
  chunk(): Chunk {
    this.#joined ??= Chunk.join(this.#frames.map(({ chunk }) => chunk));
    return this.#joined;
  }
}
