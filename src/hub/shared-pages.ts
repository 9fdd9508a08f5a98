import { createHash } from 'node:crypto';
import type { Page } from '../outbox/reader.ts';
import { encodeEvent } from '../sse/frame.ts';
import type { FramePage } from './past.ts';

/** Reads a page of the past; see `readPage`. */
type ReadPage = (topics: readonly string[] | 'all', after: number, through: number) => Promise<Page>;

interface Kept {
  readonly through: number;
  readonly page: Promise<FramePage>;
  /** Of the frames; 0 until they are there. */
  bytes: number;
}

/**
 * Pages of the past, encoded. Subscribers of the same topics whose cursors coincide share one read and its bytes: while it is under
 * way, and afterwards while the page is among those used last. A page stays true: nothing at or below a settled id ever changes.
 */
export class SharedPages {
  readonly #read: ReadPage;
  readonly #maxBytes: number;
  /** The one used last is the last. */
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;
  #hits = 0;

  /** @param maxBytes of the pages kept after they were read */
  constructor(read: ReadPage, { maxBytes }: { maxBytes: number }) {
    this.#read = read;
    this.#maxBytes = maxBytes;
  }

  /** Bytes of the pages kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Pages that were asked for and had been read, or were being read, for somebody else. */
  get hits(): number {
    return this.#hits;
  }

  /**
   * A page of the topics' events with `after < id <= through`, perhaps ending earlier.
   * @throws what the read throws
   */
  page(topics: readonly string[] | 'all', after: number, through: number): Promise<FramePage> {
    const key = `${after} ${topics === 'all' ? '*' : digestOf(topics)}`;
    const kept = this.#kept.get(key);
    // A page that reaches further than this asker may go is of a history that has ended.
    if (kept !== undefined && kept.through <= through) {
      this.#hits += 1;
      this.#kept.delete(key);
      this.#kept.set(key, kept);
      return kept.page;
    }
    return this.#readPage(key, topics, after, through);
  }

  #readPage(
    key: string,
    topics: readonly string[] | 'all',
    after: number,
    through: number,
  ): Promise<FramePage> {
    this.#forget(key);
    const page = this.#read(topics, after, through).then(({ events, reached, oldest }) => ({
      frames: events.map(encodeEvent),
      reached,
      oldest,
    }));
    const kept: Kept = { through, page, bytes: 0 };
    this.#kept.set(key, kept);
    page.then(
      ({ frames }) =>
        this.#keep(
          key,
          kept,
          frames.reduce((sum, { chunk }) => sum + chunk.framed.length, 0),
        ),
      () => this.#kept.get(key) === kept && this.#kept.delete(key),
    );
    return page;
  }

  #keep(key: string, kept: Kept, bytes: number): void {
    if (this.#kept.get(key) !== kept) return;
    kept.bytes = bytes;
    this.#bytes += bytes;
    // An empty page saves no memory and would stay for ever.
    if (bytes === 0) this.#forget(key);
    for (const [oldest, page] of this.#kept) {
      if (this.#bytes <= this.#maxBytes) break;
      if (page.bytes > 0) this.#forget(oldest);
    }
  }

  #forget(key: string): void {
    this.#bytes -= this.#kept.get(key)?.bytes ?? 0;
    this.#kept.delete(key);
  }
}

/** The topics of a feed are not counted among a page's bytes, and may be many more than those: they are kept in few. */
function digestOf(topics: readonly string[]): string {
  return createHash('sha256').update(topics.toSorted().join(' ')).digest('base64');
}
