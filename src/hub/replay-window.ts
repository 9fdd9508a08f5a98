import type { Frame } from '../sse/frame.ts';
import { FrameQueue } from './frame-queue.ts';

/** The newest events, kept encoded, so that most reconnects touch no database. Bounded by events and bytes: the oldest go first. */
export class ReplayWindow {
  readonly #maxEvents: number;
  readonly #maxBytes: number;
  readonly #frames = new FrameQueue();
  /** Those of them that change access: whoever resumes needs all of these, and few of the others. */
  readonly #accessFrames = new FrameQueue();
  #bytes = 0;
  #start: number;

  /** @param start the cursor after which every event will be pushed */
  constructor(start: number, { maxEvents, maxBytes }: { maxEvents: number; maxBytes: number }) {
    this.#start = start;
    this.#maxEvents = maxEvents;
    this.#maxBytes = maxBytes;
  }

  /** The window holds every event after this cursor. */
  get start(): number {
    return this.#start;
  }

  get events(): number {
    return this.#frames.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(frame: Frame): void {
    this.#frames.push(frame);
    if (frame.access !== undefined) this.#accessFrames.push(frame);
    this.#bytes += frame.chunk.length;
    while (this.events > this.#maxEvents || this.#bytes > this.#maxBytes) this.#dropOldest();
  }

  /**
   * The frames after a cursor, at most `max`.
   * @returns undefined if the window begins later than the cursor, so that it cannot tell
   */
  after(cursor: number, max: number): Frame[] | undefined {
    return cursor < this.#start ? undefined : this.#frames.after(cursor, max);
  }

  /** As {@link after}, all of those that change access. */
  accessAfter(cursor: number): Frame[] | undefined {
    return cursor < this.#start ? undefined : this.#accessFrames.after(cursor, Number.POSITIVE_INFINITY);
  }

  #dropOldest(): void {
    const { oldest } = this.#frames;
    if (oldest === undefined) return;
    this.#start = oldest.id;
    this.#bytes -= oldest.chunk.length;
    this.#frames.shift();
    if (this.#accessFrames.oldest === oldest) this.#accessFrames.shift();
  }
}
