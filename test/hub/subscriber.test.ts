import { expect } from 'chai';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { Hub } from '../../src/hub/hub.ts';
import { type Sink, Subscriber } from '../../src/hub/subscriber.ts';
import { Subscription } from '../../src/hub/subscription.ts';
import type { OutboxEvent } from '../../src/outbox/event.ts';

const BUFFER = 16_384;
const TOPICS = ['stream:a', 'stream:b', 'stream:c', 'user:me'];

/** A socket whose kernel takes bytes only when told to. */
class SlowSocket implements Sink {
  text = '';
  buffered = 0;
  mostBuffered = 0;
  ended = false;
  readonly #waiting: (() => void)[] = [];

  write(bytes: Buffer): void {
    if (this.ended) throw new Error('written after the end');
    this.text += bytes.toString();
    this.buffered += bytes.length;
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

  end(bytes: Buffer): void {
    this.write(bytes);
    this.ended = true;
  }
}

/** Everything that happens to one subscriber, one after the other, in an order that a property chooses. */
type Step =
  | { readonly do: 'commit'; readonly topics: readonly number[]; readonly bytes: number }
  | { readonly do: 'grant' | 'revoke'; readonly topic: number; readonly after: readonly number[] }
  | { readonly do: 'page' | 'drain' | 'heartbeat' | 'turn' };

const topicNumbers = fc.array(fc.nat(TOPICS.length - 1), { minLength: 1, maxLength: 6 });
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('commit'),
      topics: topicNumbers,
      bytes: fc.constantFrom(10, 3000, 9000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom('grant', 'revoke'), topic: fc.nat(2), after: topicNumbers }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('page', 'drain', 'heartbeat', 'turn') }) },
);

/** A hub with one subscriber; the database is the array of all events, and a page of it arrives when a step says so. */
class World {
  readonly events: OutboxEvent[] = [];
  readonly socket = new SlowSocket();
  readonly hub: Hub;
  readonly #pages: (() => void)[] = [];
  readonly #granted: Set<string>;
  /** What the subscriber must get in the end. */
  readonly expected: number[] = [];
  #lastId: number;

  constructor(
    readonly cursor: number,
    windowEvents: number,
    readonly pageEvents: number,
    granted: readonly string[],
  ) {
    this.hub = new Hub({ maxEvents: windowEvents, maxBytes: 1e9 });
    this.hub.begin(cursor, { epoch: 'e', firstId: 0, oldest: 0 });
    this.#lastId = cursor;
    this.#granted = new Set(granted);
  }

  subscribe(): Subscriber {
    const subscriber = new Subscriber({
      hub: this.hub,
      sink: this.socket,
      subscription: new Subscription({ mode: 'feed', topics: this.#granted, own: ['user:me'] }),
      cursor: this.cursor,
      replay: (topics, after, through) => this.#page(topics, after, through),
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
    this.#pages.shift()?.();
  }

  #event(topic: string, type: string, data: object): OutboxEvent {
    this.#lastId += 1 + (this.#lastId % 3);
    return { id: this.#lastId, topic, type, data: JSON.stringify(data) };
  }

  async #page(topics: readonly string[] | 'all', after: number, through: number) {
    await new Promise<void>((resolve) => this.#pages.push(resolve));
    const all = this.events.filter(
      ({ id, topic }) => id > after && id <= through && (topics === 'all' || topics.includes(topic)),
    );
    const events = all.slice(0, this.pageEvents);
    const reached = events.length < this.pageEvents ? through : (events.at(-1)?.id ?? through);
    return { events, reached, oldest: 0 };
  }
}

/** Lets everything that is not waiting for a step go on. */
async function turn(): Promise<void> {
  for (let i = 0; i < 4; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

function blocks(text: string): { type: string; id: number | undefined }[] {
  const found: { type: string; id: number | undefined }[] = [];
  createParser({
    onEvent: ({ event, id }) =>
      found.push({ type: event ?? '', id: id === undefined ? undefined : Number(id) }),
  }).feed(text);
  return found;
}

describe('a subscriber', () => {
  it('gets every event of its topics once and in order, whatever happens when', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(steps, { maxLength: 12 }),
        fc.array(steps, { maxLength: 40 }),
        fc.constantFrom(0, 3, 1000),
        fc.constantFrom(1, 2, 5),
        fc.subarray(TOPICS),
        async (missed, then, windowEvents, pageEvents, granted) => {
          const world = new World(100, windowEvents, pageEvents, [...new Set([...granted, 'user:me'])]);
          const subscriber = world.subscribe();
          const run = async (step: Step): Promise<void> => {
            if (step.do === 'commit') world.commit(step.topics, step.bytes);
            else if (step.do === 'grant' || step.do === 'revoke')
              world.access(step.do, step.topic, step.after);
            else if (step.do === 'page') world.answerPage();
            else if (step.do === 'drain') world.socket.drain();
            else if (step.do === 'heartbeat') subscriber.heartbeat();
            else await turn();
          };
          for (const step of missed) if (step.do === 'commit' || 'after' in step) await run(step);
          subscriber.start();
          for (const step of then) await run(step);
          for (let i = 0; i < 400 && (subscriber.state !== 'live' || world.socket.buffered > 0); i += 1) {
            world.answerPage();
            world.socket.drain();
            await turn();
          }
          expect(subscriber.state).to.equal('live');
          const got = blocks(world.socket.text);
          expect(got.filter(({ type }) => type.includes(':')).map(({ id }) => id)).to.deep.equal(
            world.expected,
          );
          // Ids never go back, so that a client can come back from any of them; caught-up comes once.
          const ids = got.map(({ id }) => id ?? 0);
          expect(ids).to.deep.equal(ids.toSorted((a, b) => a - b));
          expect(got.filter(({ type }) => type === 'caught-up')).to.have.length(1);
          expect(world.socket.mostBuffered).to.be.at.most(BUFFER);
          subscriber.closed();
          expect([world.hub.subscribers.size, world.hub.topicCount]).to.deep.equal([0, 0]);
        },
      ),
      {
        numRuns: 300,
        examples: [
          // A frame that does not fit, between turning live and the end of the replay that led there.
          [[], [{ do: 'page' }, { do: 'commit', topics: [3, 3], bytes: 9000 }], 0, 1, []],
        ],
      },
    );
  });

  it('never has a cursor that promises more than was sent', async () => {
    const world = new World(100, 0, 1, ['stream:a', 'user:me']);
    const subscriber = world.subscribe();
    world.commit([0, 0, 0]);
    subscriber.start();
    await turn();
    subscriber.heartbeat();
    expect(blocks(world.socket.text).map(({ type }) => type)).not.to.include('cursor');
    expect(world.socket.text).to.match(/^:/);
  });

  it('that is ahead of this hub is live at once and waits for what comes after its cursor', async () => {
    const world = new World(100, 1000, 1, ['stream:a', 'user:me']);
    const hub = world.hub;
    const got = new SlowSocket();
    const ahead = new Subscriber({
      hub,
      sink: got,
      subscription: new Subscription({ mode: 'feed', topics: ['stream:a'], own: ['user:me'] }),
      cursor: 104,
      replay: () => Promise.reject(new Error('no need to replay')),
      bufferBytes: BUFFER,
      retryMs: () => 1,
      onEnd: () => {},
      onReplayError: () => {},
    });
    ahead.start();
    await turn();
    expect(blocks(got.text)).to.deep.equal([{ type: 'caught-up', id: 104 }]);
    world.commit([0, 0, 0, 0]);
    const ids = world.events.map(({ id }) => id);
    expect(ids.some((id) => id <= 104)).to.equal(true);
    expect(
      blocks(got.text)
        .slice(1)
        .map(({ id }) => id),
    ).to.deep.equal(ids.filter((id) => id > 104));
  });
});
