import type { Frame } from '../sse/frame.ts';
import { FrameBlock } from './frame-block.ts';
import { FrameQueue } from './frame-queue.ts';
import { indexAfter } from './index-after.ts';

/**
 * The newest events, kept encoded, so that most reconnects touch no database. Bounded by events and bytes of their payloads: the oldest go first.
 * A full window allocates nothing for events of a usual size: a block whose events have gone is filled again. An event for which the last block
 * has no room ends it, so that what is held is up to twice the payloads where events are larger than half a block.
 */
export class ReplayWindow {
  readonly #maxEvents: number;
  readonly #maxBytes: number;
  /** In the order of their ids; the first one may have lost frames at its front, the last one may have room. */
  readonly #blocks: FrameBlock[] = [];
  /** Frames that the first block has lost. */
  #gone = 0;
  /** An empty one: as many come free as are needed, now one and then the other. */
  #spare: FrameBlock | undefined;
  /** The frames that change access: whoever resumes needs all of these, and few of the others. */
  readonly #accessFrames = new FrameQueue();
  #events = 0;
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
    return this.#events;
  }

  get bytes(): number {
    return this.#bytes;
  }

  push(frame: Frame): void {
    if (this.#blocks.at(-1)?.push(frame) !== true) this.#append(frame);
    if (frame.access !== undefined) this.#accessFrames.push(frame);
    this.#events += 1;
    this.#bytes += frame.chunk.length;
    while (this.#events > this.#maxEvents || this.#bytes > this.#maxBytes) this.#dropOldest();
  }

  /**
   * The frames after a cursor, at most `max`.
   * @returns undefined if the window begins later than the cursor, so that it cannot tell
   */
  after(cursor: number, max: number): Frame[] | undefined {
    if (cursor < this.#start) return undefined;
    const found: (readonly Frame[])[] = [];
    let room = max;
    for (let at = this.#blockAfter(cursor); at < this.#blocks.length && room > 0; at += 1) {
      const block = this.#blocks[at] as FrameBlock;
      const frames = block.frames();
      // What the first block has lost is not above any cursor that the window can tell of.
      const from = block.indexAfter(cursor);
      const whole = from === 0 && frames.length <= room;
      const some = whole ? frames : frames.slice(from, from + room);
      found.push(some);
      room -= some.length;
    }
    // In one step: in a storm this is asked thousands of times.
    return ([] as Frame[]).concat(...found);
  }

  /** As {@link after}, all of those that change access. */
  accessAfter(cursor: number): Frame[] | undefined {
    return cursor < this.#start ? undefined : this.#accessFrames.after(cursor, Number.POSITIVE_INFINITY);
  }

  /** Begins another block with a frame for which the last one has no room. */
  #append(frame: Frame): void {
    const spare = this.#spare;
    if (spare?.push(frame)) {
      this.#spare = undefined;
      this.#blocks.push(spare);
      return;
    }
    const block = new FrameBlock(frame);
    block.push(frame);
    this.#blocks.push(block);
  }

  /** The first block with an id above this one; all of them have some. */
  #blockAfter(id: number): number {
    return indexAfter(id, 0, this.#blocks.length, (index) => {
      const block = this.#blocks[index] as FrameBlock;
      return block.idAt(block.length - 1);
    });
  }

  #dropOldest(): void {
    const [block] = this.#blocks;
    if (block === undefined) return;
    this.#start = block.idAt(this.#gone);
    this.#events -= 1;
    this.#bytes -= block.bytesAt(this.#gone);
    this.#gone += 1;
    if (this.#accessFrames.oldest?.id === this.#start) this.#accessFrames.shift();
    if (this.#gone < block.length) return;
    this.#gone = 0;
    this.#blocks.shift();
    block.clear();
    if (block.isOfUsualSize) this.#spare = block;
  }
}
