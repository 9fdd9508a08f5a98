import { Hub } from '../../src/hub/hub.ts';
import { SharedPages } from '../../src/hub/shared-pages.ts';
import type { Sink } from '../../src/hub/sink.ts';
import { Subscriber } from '../../src/hub/subscriber.ts';
import { Subscription } from '../../src/hub/subscription.ts';
import type { OutboxEvent } from '../../src/outbox/event.ts';
import type { Page } from '../../src/outbox/reader.ts';
import type { Chunk } from '../../src/sse/chunk.ts';
import { NO_DESCRIPTOR } from '../../src/sse/direct-write.ts';
import type { WriteBatch, Writer } from '../../src/sse/write-batch.ts';

export const BUFFER = 16_384;
export const TOPICS = ['stream:a', 'stream:b', 'stream:c', 'user:me'];

/** A socket whose kernel takes bytes only when told to; or, if it is quick, at once. */
export class SlowSocket implements Sink, Writer {
  quick = false;
  text = '';
  buffered = 0;
  mostBuffered = 0;
  ended = false;
  isCut = false;
  #joined = false;
  readonly #waiting: (() => void)[] = [];

  write({ bytes }: Chunk, batch?: WriteBatch): void {
    if (this.ended) throw new Error('written after the end');
    if (this.#joined) throw new Error('written beside what waits in a batch');
    this.#joined = batch !== undefined;
    // A descriptor that nobody has takes nothing.
    if (batch === undefined) this.writeRest(bytes);
    else batch.add(NO_DESCRIPTOR, bytes, this);
  }

  writeRest(bytes: Buffer): void {
    this.#joined = false;
    this.text += bytes.toString();
    if (!this.quick) this.buffered += bytes.length;
    this.mostBuffered = Math.max(this.mostBuffered, this.buffered);
  }

  drained(): Promise<void> {
    if (this.buffered === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  drain(): void {
    this.buffered = 0;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  end(chunk: Chunk): void {
    this.write(chunk);
    this.ended = true;
  }

  cut(): void {
    this.isCut = true;
  }
}

/** A hub with one subscriber; the database is the array of all events, and a page of it arrives when a step says so. */
export class SubscriberWorld {
  readonly events: OutboxEvent[] = [];
  readonly socket = new SlowSocket();
  readonly hub: Hub;
  readonly pages: SharedPages;
  /** Pages asked of the database, as `topics after`. */
  readonly asked: string[] = [];
  readonly #reads: (() => void)[] = [];
  readonly #granted: Set<string>;
  /** What the subscriber must get in the end. */
  readonly expected: number[] = [];
  /** What the database still holds. */
  oldest = 0;
  #lastId: number;

  constructor(
    readonly cursor: number,
    windowEvents: number,
    readonly pageEvents: number,
    granted: readonly string[],
  ) {
    // No clock decides which steps fall into one turn of the event loop.
    this.hub = new Hub({ maxEvents: windowEvents, maxBytes: 1e9 }, Number.POSITIVE_INFINITY);
    this.hub.begin(cursor, { epoch: 'e', firstId: 0, oldest: 0 });
    this.pages = new SharedPages((topics, after, through) => this.#page(topics, after, through), {
      maxBytes: 100_000,
      maxAhead: 2,
      idle: () => true,
    });
    this.#lastId = cursor;
    this.#granted = new Set(granted);
  }

  /** @param mode `all` for an administrator, who must get every event */
  subscribe(mode: 'feed' | 'all' = 'feed', sink: Sink = this.socket): Subscriber {
    const subscriber = new Subscriber({
      hub: this.hub,
      sink,
      subscription: new Subscription({ mode, topics: this.#granted, own: ['user:me'] }),
      cursor: this.cursor,
      has: this.cursor,
      pages: this.pages,
      bufferBytes: BUFFER,
      retryMs: () => 1,
      onEnd: () => {},
      onReplayError: (error) => {
        throw error;
      },
    });
    return subscriber;
  }

  commit(topics: readonly number[], bytes = 10, first: readonly OutboxEvent[] = []): void {
    const batch = [
      ...first,
      ...topics.map((topic) => this.#event(TOPICS[topic] ?? '', 'test:happened', { pad: 'x'.repeat(bytes) })),
    ];
    for (const event of batch) {
      this.events.push(event);
      if (this.#granted.has(event.topic)) this.expected.push(event.id);
      if (event.type === 'access:granted') this.#granted.add(JSON.parse(event.data).topic);
      if (event.type === 'access:revoked') this.#granted.delete(JSON.parse(event.data).topic);
    }
    this.hub.dispatch(batch);
  }

  access(kind: 'grant' | 'revoke', topic: number, then: readonly number[]): void {
    const type = kind === 'grant' ? 'access:granted' : 'access:revoked';
    this.commit(then, 10, [this.#event('user:me', type, { topic: TOPICS[topic] })]);
  }

  answerPage(): void {
    this.#reads.shift()?.();
  }

  #event(topic: string, type: string, data: object): OutboxEvent {
    this.#lastId += 1 + (this.#lastId % 3);
    return { id: this.#lastId, topic, type, data: JSON.stringify(data) };
  }

  async #page(topics: readonly string[] | 'all', after: number, through: number): Promise<Page> {
    this.asked.push(`${topics} ${after}`);
    await new Promise<void>((resolve) => this.#reads.push(resolve));
    const all = this.events.filter(
      ({ id, topic }) => id > after && id <= through && (topics === 'all' || topics.includes(topic)),
    );
    const events = all.slice(0, this.pageEvents);
    const reached = events.length < this.pageEvents ? through : (events.at(-1)?.id ?? through);
    return { events, reached, oldest: this.oldest };
  }
}
