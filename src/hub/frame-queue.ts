import type { Frame } from '../sse/frame.ts';
import { indexAfter } from './index-after.ts';

/** Frames in the order of their ids; they come at one end, go at the other, and are found by id. */
export class FrameQueue {
  /** Frames from #first on are in the queue; the empty places before wait for the array to be cut. */
  #frames: (Frame | undefined)[] = [];
  #first = 0;

  get length(): number {
    return this.#frames.length - this.#first;
  }

  get oldest(): Frame | undefined {
    return this.#frames[this.#first];
  }

  push(frame: Frame): void {
    this.#frames.push(frame);
    if (this.#first > 1024 && this.#first * 2 > this.#frames.length) {
      this.#frames = this.#frames.slice(this.#first);
      this.#first = 0;
    }
  }

  /** Drops the oldest. */
  shift(): void {
    if (this.length === 0) return;
    this.#frames[this.#first] = undefined;
    this.#first += 1;
  }

  /** The frames after an id, at most `max`. */
  after(id: number, max: number): Frame[] {
    const from = this.#indexAfter(id);
    return this.#frames.slice(from, from + max) as Frame[];
  }

  #indexAfter(id: number): number {
    const frames = this.#frames;
    return indexAfter(id, this.#first, frames.length, (index) => (frames[index] as Frame).id);
  }
}
