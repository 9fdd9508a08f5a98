import type { Frame } from '../sse/frame.ts';

/** The newest events, kept encoded, so that most reconnects touch no database. Bounded by events and bytes: the oldest go first. */
export class ReplayWindow {
  readonly #maxEvents: number;
  readonly #maxBytes: number;
  /** Frames from #first on are in the window; the empty places before wait for the array to be cut. */
  #frames: (Frame | undefined)[] = [];
  #first = 0;
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
    return this.#frames.length - this.#first;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(frame: Frame): void {
    this.#frames.push(frame);
    this.#bytes += frame.chunk.length;
    while (this.events > this.#maxEvents || this.#bytes > this.#maxBytes) this.#dropOldest();
    if (this.#first > 1024 && this.#first * 2 > this.#frames.length) {
      this.#frames = this.#frames.slice(this.#first);
      this.#first = 0;
    }
  }

  /**
   * The frames after a cursor, at most `max`.
   * @returns undefined if the window begins later than the cursor, so that it cannot tell
   */
  after(cursor: number, max: number): Frame[] | undefined {
    if (cursor < this.#start) return undefined;
    const from = this.#indexAfter(cursor);
    return this.#frames.slice(from, from + max) as Frame[];
  }

  #dropOldest(): void {
    const frame = this.#frames[this.#first];
    if (frame === undefined) return;
    this.#start = frame.id;
    this.#bytes -= frame.chunk.length;
    this.#frames[this.#first] = undefined;
    this.#first += 1;
  }

  #indexAfter(cursor: number): number {
    let low = this.#first;
    let high = this.#frames.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#frames[middle] as Frame).id <= cursor) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
