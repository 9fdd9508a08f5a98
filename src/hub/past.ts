import type { Frame } from '../sse/frame.ts';
import type { Hub } from './hub.ts';

/** A page of the past from the database, encoded; see `readPage`. */
export interface FramePage {
  readonly frames: readonly Frame[];
  /** The page is complete up to this id. */
  readonly reached: number;
  /** The oldest cursor from which a replay is still exact, read after the events. */
  readonly oldest: number;
}

/** Reads a page of the past from the database. */
export type Replay = (
  topics: readonly string[] | 'all',
  after: number,
  through: number,
) => Promise<FramePage>;

/** Some past frames after a cursor. */
export interface Stretch {
  readonly frames: readonly Frame[];
  /** If all frames are used the cursor moves here; undefined: to the last frame. */
  readonly reached: number | undefined;
  /** The topics that were asked for; undefined: every topic. */
  readonly asked: ReadonlySet<string> | undefined;
}

/** Most frames of the window looked at in one step. */
const WINDOW_SLICE = 2000;

/** Where a subscriber finds what it has missed: in the hub's window, else in the database, a page at a time. */
export class Past {
  readonly #hub: Hub;
  readonly #replay: Replay;

  constructor(hub: Hub, replay: Replay) {
    this.#hub = hub;
    this.#replay = replay;
  }

  /** @returns undefined if the window begins later than the cursor */
  fromWindow(after: number, through: number): Stretch | undefined {
    const frames = this.#hub.window.after(after, WINDOW_SLICE);
    if (frames === undefined) return undefined;
    return { frames, reached: frames.length < WINDOW_SLICE ? through : undefined, asked: undefined };
  }

  /**
   * @param heard the topics to read; what is gained or lost meanwhile changes nothing in the answer
   * @returns undefined if retention has passed the cursor
   * @throws what `replay` throws
   */
  async fromDatabase(
    heard: ReadonlySet<string> | 'all',
    after: number,
    through: number,
  ): Promise<Stretch | undefined> {
    const asked = heard === 'all' ? undefined : new Set(heard);
    const { frames, reached, oldest } = await this.#replay(asked ? [...asked] : 'all', after, through);
    return oldest > after ? undefined : { frames, reached, asked };
  }
}
