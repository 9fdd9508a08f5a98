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

/** Pages of the past from the database. */
export interface PastPages {
  /** @throws what reading it throws */
  page(topics: readonly string[] | 'all', after: number, through: number): Promise<FramePage>;
  /** It will be asked for soon: may be read now, so that it is there by then. Never throws. */
  ahead(topics: readonly string[] | 'all', after: number, through: number): void;
  /** Whoever would have asked for it has gone, or does not need it. */
  forgo(topics: readonly string[] | 'all', after: number): void;
}

/** Some past frames after a cursor. */
export interface Stretch {
  readonly frames: readonly Frame[];
  /** If all frames are used the cursor moves here; undefined: to the last frame. */
  readonly reached: number | undefined;
  /** The topics that were asked for; undefined: every topic. */
  readonly asked: readonly string[] | undefined;
}

/** Most frames of the window looked at in one step. */
const WINDOW_SLICE = 2000;

/** Where a subscriber finds what it has missed: in the hub's window, else in the database, a page at a time. */
export class Past {
  readonly #hub: Hub;
  readonly #pages: PastPages;
  /** The topics last asked for: the same array while they are the same. */
  #topics: readonly string[] = [];
  /** What was read ahead, until it is asked for. */
  #wish: { readonly topics: readonly string[] | 'all'; readonly after: number } | undefined;

  constructor(hub: Hub, pages: PastPages) {
    this.#hub = hub;
    this.#pages = pages;
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
   * @throws what reading a page throws
   */
  async fromDatabase(
    heard: ReadonlySet<string> | 'all',
    after: number,
    through: number,
  ): Promise<Stretch | undefined> {
    const topics = this.#topicsOf(heard);
    this.#wish = undefined;
    const { frames, reached, oldest } = await this.#pages.page(topics, after, through);
    return oldest > after ? undefined : { frames, reached, asked: topics === 'all' ? undefined : topics };
  }

  /**
   * What will be asked for next has time to be read while the socket is written to. Only a wish: the cursor and the topics are those
   * of the moment, and whoever asks for others afterwards, or finds the window there first, has lost nothing but the read.
   */
  readAhead(heard: ReadonlySet<string> | 'all', after: number): void {
    const { window, cursor } = this.#hub;
    if (after >= cursor || after >= window.start) return;
    const topics = this.#topicsOf(heard);
    this.#wish = { topics, after };
    this.#pages.ahead(topics, after, cursor);
  }

  /** No more will be asked for. */
  leave(): void {
    if (this.#wish !== undefined) this.#pages.forgo(this.#wish.topics, this.#wish.after);
    this.#wish = undefined;
  }

  #topicsOf(heard: ReadonlySet<string> | 'all'): readonly string[] | 'all' {
    if (heard === 'all') return heard;
    const same = heard.size === this.#topics.length && this.#topics.every((topic) => heard.has(topic));
    if (!same) this.#topics = [...heard];
    return this.#topics;
  }
}
