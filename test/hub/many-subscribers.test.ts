import { expect } from 'chai';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { Hub } from '../../src/hub/hub.ts';
import { SharedPages } from '../../src/hub/shared-pages.ts';
import { Subscriber } from '../../src/hub/subscriber.ts';
import { Subscription } from '../../src/hub/subscription.ts';
import { EVERYBODY } from '../../src/outbox/access-change.ts';
import type { OutboxEvent } from '../../src/outbox/event.ts';
import { SlowSocket } from '../support/subscriber-world.ts';

const BUFFER = 2000;
/** Bytes of the largest event and a few that are not events; more than the buffer, so that it goes alone. */
const LARGEST = 3000;
const CACHE = 5000;
const SHARED_TOPICS = ['stream:a', 'stream:b', 'stream:c'];
const PEOPLE = [0, 1];
/** Heard by each of them, and theirs to be given only if they asked for them. */
const ownOf = (person: number): readonly string[] => [`user:${person}`, `wallet:${person}`];
const OWN_TOPICS = PEOPLE.flatMap(ownOf);
const ALL_TOPICS = [...SHARED_TOPICS, ...OWN_TOPICS];
/** Where people hear what changes for them, or for their credential. */
const tokenOf = (person: number): string => `token:${person}`;
const ACCESS_TOPICS = [...OWN_TOPICS, ...PEOPLE.map(tokenOf), EVERYBODY];

type Mode = 'feed' | 'named' | 'all' | 'fixed';

interface Follower {
  readonly subscriber: Subscriber;
  readonly socket: SlowSocket;
  readonly mode: Mode;
  readonly topics: readonly string[];
  readonly person: number;
  readonly cursor: number;
  readonly has: number;
  /** The server or the client ended it. */
  ended: string | undefined;
}

/** What somebody must get, by the definition: a walk through all events, one by one, and why it ends, if it does. */
function expectedOf(
  { mode, topics, person, cursor, has }: Follower,
  events: readonly OutboxEvent[],
): { ids: number[]; ended: string | undefined } {
  const own = ownOf(person);
  const now = new Set(topics);
  const ids: number[] = [];
  for (const { id, topic, type, data } of events.filter((event) => event.id > cursor)) {
    const concerned = own.includes(topic) || topic === EVERYBODY;
    if (type === 'access:credentials_revoked') {
      if (concerned || topic === tokenOf(person)) return { ids, ended: 'session_revoked' };
      continue;
    }
    const changed: string = type.startsWith('access:') && concerned ? JSON.parse(data).topic : '';
    if (type === 'access:revoked' && changed.startsWith('user:')) return { ids, ended: 'session_revoked' };
    if ((mode === 'all' || now.has(topic)) && id > has) ids.push(id);
    const mayGain = mode === 'feed' || (mode === 'named' && topics.includes(changed));
    if (changed !== '' && type === 'access:granted' && mayGain) now.add(changed);
    if (type === 'access:revoked' && mode !== 'fixed' && now.delete(changed) && mode === 'named')
      if (now.size === 0) return { ids, ended: 'access_revoked' };
  }
  return { ids, ended: undefined };
}

const event = fc.record({
  topic: fc.constantFrom(...ALL_TOPICS),
  gap: fc.integer({ min: 1, max: 3 }),
  text: fc.constantFrom('x', 'é'.repeat(20), 'x'.repeat(900), 'é'.repeat(1200)),
  access: fc.oneof(
    // Several events between two changes of access: of one topic, and of several in turn.
    { weight: 40, arbitrary: fc.constant(null) },
    {
      weight: 19,
      arbitrary: fc.record({
        type: fc.constantFrom('access:granted', 'access:revoked'),
        on: fc.constantFrom(...OWN_TOPICS, EVERYBODY),
        // Whoever loses a user's topic is sent away: seldom, so that there is more to come.
        topic: fc.constantFrom(...SHARED_TOPICS, 'wallet:0', 'wallet:1'),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        type: fc.constantFrom('access:revoked', 'access:credentials_revoked'),
        on: fc.constantFrom(...ACCESS_TOPICS),
        topic: fc.constantFrom(...OWN_TOPICS),
      }),
    },
  ),
});

const who = fc.nat(9);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ batch: fc.array(event, { minLength: 1, maxLength: 12 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      mode: fc.constantFrom<Mode>('feed', 'named', 'all', 'fixed'),
      person: fc.constantFrom(...PEOPLE),
      topics: fc.subarray(ALL_TOPICS, { minLength: 1 }),
      behind: fc.nat(40),
      ahead: fc.nat(20),
      quick: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ answer: fc.nat(5) }) },
  { weight: 3, arbitrary: fc.record({ drain: who, quick: fc.boolean() }) },
  { weight: 3, arbitrary: fc.constant({ turn: true }) },
  { weight: 1, arbitrary: fc.record({ close: who }) },
  { weight: 1, arbitrary: fc.record({ beat: who }) },
  { weight: 1, arbitrary: fc.record({ retain: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.constant({ epoch: true }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function turn(): Promise<void> {
  for (let i = 0; i < 3; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** A hub, its database, and whoever follows it; pages arrive when a step says so, in any order. */
class Crowd {
  readonly events: OutboxEvent[] = [];
  readonly followers: Follower[] = [];
  readonly hub: Hub;
  readonly pages: SharedPages;
  readonly #reads: (() => void)[] = [];
  #lastId = 100;
  #oldest = 90;

  constructor(windowEvents: number, pageEvents: number) {
    this.hub = new Hub({ maxEvents: windowEvents, maxBytes: 1e9 });
    this.hub.begin(100, this.#history);
    const read: ConstructorParameters<typeof SharedPages>[0] = async (topics, after, through) => {
      await new Promise<void>((resolve) => this.#reads.push(resolve));
      const past = this.events.filter(
        ({ id, topic }) =>
          id > Math.max(after, this.#oldest) && id <= through && (topics === 'all' || topics.includes(topic)),
      );
      const events = past.slice(0, pageEvents);
      const reached = events.length < pageEvents ? through : (events.at(-1)?.id ?? through);
      return { events, reached, oldest: this.#oldest };
    };
    this.pages = new SharedPages(read, { maxBytes: CACHE, maxAhead: 2, idle: () => true });
  }

  get #history() {
    return { epoch: 'e', firstId: 0, oldest: this.#oldest };
  }

  async take(step: Step): Promise<void> {
    if ('batch' in step) this.#commit(step.batch);
    else if ('mode' in step) this.#follow(step);
    else if ('answer' in step) this.#reads.splice(step.answer % Math.max(1, this.#reads.length), 1)[0]?.();
    else if ('turn' in step) await turn();
    else if ('beat' in step) this.#pick(step.beat)?.subscriber.heartbeat();
    else if ('retain' in step) this.#retain(Math.min(this.hub.cursor, this.#oldest + step.retain));
    else if ('epoch' in step) {
      this.#lastId += 1000;
      this.#oldest = this.#lastId;
      this.hub.begin(this.#lastId, this.#history);
    } else if ('drain' in step) {
      const socket = this.#pick(step.drain)?.socket;
      if (socket !== undefined) socket.quick = step.quick;
      socket?.drain();
    } else {
      const follower = this.#pick(step.close);
      if (follower === undefined) return;
      follower.ended ??= 'client';
      follower.socket.ended = true;
      follower.socket.drain();
      follower.subscriber.closed();
    }
  }

  /** Lets everything that is under way come to its end. */
  async settle(): Promise<void> {
    for (const { socket } of this.followers) socket.quick = true;
    do {
      for (const answer of this.#reads.splice(0)) answer();
      for (const { socket } of this.followers) socket.drain();
      await turn();
    } while (
      this.#reads.length > 0 ||
      this.followers.some(({ subscriber }) => subscriber.state === 'replaying')
    );
  }

  #pick(index: number): Follower | undefined {
    return this.followers[index % Math.max(1, this.followers.length)];
  }

  #retain(oldest: number): void {
    this.#oldest = oldest;
    this.hub.setHistory(this.#history);
  }

  #commit(batch: Extract<Step, { batch: unknown }>['batch']): void {
    const events = batch.map(({ topic, gap, text, access }): OutboxEvent => {
      this.#lastId += gap;
      const id = this.#lastId;
      if (access === null) return { id, topic, type: 'test:happened', data: JSON.stringify({ text }) };
      const { on, type, topic: changed } = access;
      return { id, topic: on, type, data: JSON.stringify({ topic: changed }) };
    });
    this.events.push(...events);
    this.hub.dispatch(events);
  }

  #follow({ mode, person, topics: asked, behind, ahead, quick }: Extract<Step, { mode: unknown }>): void {
    const { hub, pages } = this;
    const cursor = Math.max(this.#oldest, hub.cursor - behind);
    const has = cursor === hub.cursor ? cursor + ahead : cursor;
    const own = ownOf(person);
    const topics = mode === 'feed' ? [...new Set([...asked, ...own])] : mode === 'all' ? [] : asked;
    const named = mode === 'named' ? topics : [];
    const credential = { topics: [...own, tokenOf(person), EVERYBODY], issuedAt: null };
    const socket = new SlowSocket();
    socket.quick = quick;
    const subscriber = new Subscriber({
      hub,
      sink: socket,
      subscription: new Subscription({ mode, topics, named, own, credential }),
      cursor,
      has,
      pages,
      bufferBytes: BUFFER,
      retryMs: () => 1,
      onEnd: (reason) => {
        follower.ended = reason;
      },
      onReplayError: (error) => {
        throw error;
      },
    });
    const follower: Follower = { subscriber, socket, mode, topics, person, cursor, has, ended: undefined };
    this.followers.push(follower);
    subscriber.start();
  }
}

function check(follower: Follower, events: readonly OutboxEvent[]): void {
  const { socket, subscriber, ended } = follower;
  const got: { id: number; type: string; data: string }[] = [];
  createParser({
    onEvent: ({ id, event: type, data }) => got.push({ id: Number(id), type: type ?? '', data }),
  }).feed(socket.text);
  const given = got.filter(({ type }) => type === 'test:happened' || type.startsWith('access:'));
  const ids = given.map(({ id }) => id);
  const expected = expectedOf(follower, events);
  const isCut = ended === 'client' || ended === 'unavailable';
  expect(ids).to.deep.equal(isCut ? expected.ids.slice(0, ids.length) : expected.ids);
  if (!isCut)
    expect([subscriber.state, ended]).to.deep.equal([
      expected.ended === undefined ? 'live' : 'ended',
      expected.ended,
    ]);
  const data = new Map(events.map((each) => [each.id, each.data]));
  expect(given.map((each) => each.data)).to.deep.equal(ids.map((id) => data.get(id)));
  const told = got.map(({ id }) => id).filter((id) => !Number.isNaN(id));
  expect(told, 'a cursor that goes back').to.deep.equal(told.toSorted((a, b) => a - b));
  expect(socket.mostBuffered).to.be.at.most(LARGEST);
}

describe('many subscribers of one hub', () => {
  it('get each what is theirs, once and in order, in a bounded buffer, whatever happens to them', async () => {
    const steps = fc.array(step, { minLength: 5, maxLength: 120, size: 'max' });
    const windows = fc.constantFrom(0, 3, 1000);
    await fc.assert(
      fc.asyncProperty(steps, windows, fc.integer({ min: 1, max: 6 }), async (run, window, pageEvents) => {
        const crowd = new Crowd(window, pageEvents);
        for (const each of run) await crowd.take(each);
        await crowd.settle();
        for (const follower of crowd.followers) {
          check(follower, crowd.events);
          follower.subscriber.closed();
        }
        expect([crowd.hub.subscribers.size, crowd.hub.topicCount]).to.deep.equal([0, 0]);
        expect(crowd.pages.bytes).to.be.at.most(CACHE);
      }),
      { numRuns: 150 },
    );
  });
});
