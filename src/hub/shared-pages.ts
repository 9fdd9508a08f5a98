import { createHash } from 'node:crypto';
import type { Page } from '../outbox/reader.ts';
import { encodePage } from '../sse/frame.ts';
import type { FramePage, PastPages } from './past.ts';

/** Reads a page of the past; see `readPage`. */
type ReadPage = (topics: readonly string[] | 'all', after: number, through: number) => Promise<Page>;

/** After so many reads and nothing shared, pages are kept in an eighth of the bytes: who replays alone never comes back to them. */
const ALONE_AFTER = 64;
const ALONE_SHARE = 1 / 8;

interface Kept {
  readonly through: number;
  /** Undefined once it is forgotten: see `#forget`. */
  page: Promise<FramePage> | undefined;
  /** Of the frames; 0 until they are there. */
  bytes: number;
  /** Read ahead, and nobody has asked for it yet. */
  untaken: boolean;
}

export interface SharedPagesOptions {
  /** Of the pages kept after they were read. */
  readonly maxBytes: number;
  /** Pages read ahead that nobody has asked for yet. */
  readonly maxAhead: number;
  /** Whether a page can be read without making anybody wait who needs one now. */
  readonly idle: () => boolean;
}

/**
 * Pages of the past, encoded. Subscribers of the same topics whose cursors coincide share one read and its bytes: while it is under
 * way, and afterwards while the page is among those used last. A page stays true: nothing at or below a settled id ever changes.
 *
 * So a page can also be read before it is asked for. It waits here like the others, within the same bytes, and belongs to nobody:
 * if the one for whom it was read goes away (`forgo`) or hears of other topics by then, it is forgotten like any page that is not used.
 */
export class SharedPages implements PastPages {
  readonly #read: ReadPage;
  readonly #options: SharedPagesOptions;
  /** The one used last is the last. */
  readonly #kept = new Map<string, Kept>();
  /** Of lists of topics, while their askers have them: a feed's is long, and the same page after page. */
  readonly #digests = new WeakMap<readonly string[], string>();
  #bytes = 0;
  #hits = 0;
  #ahead = 0;
  #untaken = 0;
  #untakenBytes = 0;
  /** Pages read since one was shared. */
  #unshared = ALONE_AFTER;

  constructor(read: ReadPage, options: SharedPagesOptions) {
    this.#read = read;
    this.#options = options;
  }

  /** Bytes of the pages kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Pages that were asked for and had been read, or were being read, for somebody else. */
  get hits(): number {
    return this.#hits;
  }

  /** Pages read before they were asked for. */
  get readAhead(): number {
    return this.#ahead;
  }

  /**
   * A page of the topics' events with `after < id <= through`, perhaps ending earlier.
   * @throws what the read throws
   */
  page(topics: readonly string[] | 'all', after: number, through: number): Promise<FramePage> {
    const key = this.#keyOf(topics, after);
    const kept = this.#kept.get(key);
    // A page that reaches further than this asker may go is of a history that has ended.
    if (kept?.page === undefined || kept.through > through)
      return this.#readPage(key, topics, after, through, false);
    if (kept.untaken) this.#take(kept);
    else {
      this.#hits += 1;
      this.#unshared = 0;
    }
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    return kept.page;
  }

  /** Reads a page that will be asked for, if it is not here, the bounds allow it, and nobody waits for one. */
  ahead(topics: readonly string[] | 'all', after: number, through: number): void {
    const { maxAhead, idle } = this.#options;
    if (this.#untaken >= maxAhead || !idle()) return;
    const key = this.#keyOf(topics, after);
    if (this.#kept.has(key)) return;
    this.#ahead += 1;
    this.#untaken += 1;
    void this.#readPage(key, topics, after, through, true);
  }

  /** One that was read ahead for somebody who will not ask for it is now like those that were asked for: kept or dropped with them. */
  forgo(topics: readonly string[] | 'all', after: number): void {
    const kept = this.#kept.get(this.#keyOf(topics, after));
    if (kept?.untaken === true) this.#take(kept);
  }

  #readPage(
    key: string,
    topics: readonly string[] | 'all',
    after: number,
    through: number,
    untaken: boolean,
  ): Promise<FramePage> {
    this.#forget(key);
    this.#unshared += 1;
    const page = this.#read(topics, after, through).then(({ events, reached, oldest }) => ({
      frames: encodePage(events),
      reached,
      oldest,
    }));
    const kept: Kept = { through, page, bytes: 0, untaken };
    this.#kept.set(key, kept);
    page.then(
      ({ frames }) =>
        this.#keep(
          key,
          kept,
          frames.reduce((sum, { chunk }) => sum + chunk.length, 0),
        ),
      () => {
        if (this.#kept.get(key) === kept) this.#forget(key);
      },
    );
    return page;
  }

  #keep(key: string, kept: Kept, bytes: number): void {
    if (this.#kept.get(key) !== kept) return;
    // An empty page saves no memory and would stay for ever.
    if (bytes === 0) {
      this.#forget(key);
      return;
    }
    kept.bytes = bytes;
    this.#bytes += bytes;
    if (kept.untaken) this.#untakenBytes += bytes;
    const { maxBytes } = this.#options;
    const maxTaken = this.#unshared > ALONE_AFTER ? maxBytes * ALONE_SHARE : maxBytes;
    for (const [oldest, page] of this.#kept) {
      const full = this.#bytes > maxBytes;
      if (!full && this.#bytes - this.#untakenBytes <= maxTaken) break;
      if (page.bytes > 0 && (full || !(page.untaken || page === kept))) this.#forget(oldest);
    }
  }

  #take(kept: Kept): void {
    kept.untaken = false;
    this.#untaken -= 1;
    this.#untakenBytes -= kept.bytes;
  }

  #forget(key: string): void {
    const kept = this.#kept.get(key);
    if (kept === undefined) return;
    if (kept.untaken) this.#take(kept);
    this.#bytes -= kept.bytes;
    // A Map that grows or shrinks leaves tables behind, each of which knows the next; once one of them is old, they and what they last held
    // wait for a full collection. That was 50 MiB of pages (npm run bench:replay).
    kept.page = undefined;
    this.#kept.delete(key);
  }

  #keyOf(topics: readonly string[] | 'all', after: number): string {
    if (topics === 'all') return `${after} *`;
    let digest = this.#digests.get(topics);
    if (digest === undefined) {
      digest = digestOf(topics);
      this.#digests.set(topics, digest);
    }
    return `${after} ${digest}`;
  }
}

/** The topics of a feed are not counted among a page's bytes, and may be many more than those: they are kept in few. */
function digestOf(topics: readonly string[]): string {
  return createHash('sha256').update(topics.toSorted().join(' ')).digest('base64');
}
