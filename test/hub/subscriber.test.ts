import { expect } from 'chai';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { Hub } from '../../src/hub/hub.ts';
import { Subscriber } from '../../src/hub/subscriber.ts';
import { Subscription } from '../../src/hub/subscription.ts';
import type { OutboxEvent } from '../../src/outbox/event.ts';
import { BUFFER, SlowSocket, SubscriberWorld, TOPICS } from '../support/subscriber-world.ts';

/** Everything that happens to one subscriber, one after the other, in an order that a property chooses. */
type Step =
  | { readonly do: 'commit'; readonly topics: readonly number[]; readonly bytes: number }
  | { readonly do: 'grant' | 'revoke'; readonly topic: number; readonly after: readonly number[] }
  | { readonly do: 'page' | 'drain' | 'quicken' | 'slow down' | 'heartbeat' | 'turn' };

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
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('page', 'page', 'drain', 'quicken', 'slow down', 'heartbeat', 'turn'),
    }),
  },
);

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
        fc.constantFrom('feed' as const, 'all' as const),
        async (missed, then, windowEvents, pageEvents, granted, mode) => {
          const world = new SubscriberWorld(100, windowEvents, pageEvents, [
            ...new Set([...granted, 'user:me']),
          ]);
          const subscriber = world.subscribe(mode);
          const run = async (step: Step): Promise<void> => {
            if (step.do === 'commit') world.commit(step.topics, step.bytes);
            else if (step.do === 'grant' || step.do === 'revoke')
              world.access(step.do, step.topic, step.after);
            else if (step.do === 'page') world.answerPage();
            else if (step.do === 'drain') world.socket.drain();
            else if (step.do === 'quicken' || step.do === 'slow down')
              world.socket.quick = step.do === 'quicken';
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
            mode === 'all' ? world.events.map(({ id }) => id) : world.expected,
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
        numRuns: 400,
        examples: [
          // A frame that does not fit, between turning live and the end of the replay that led there.
          [[], [{ do: 'page' }, { do: 'commit', topics: [3, 3], bytes: 9000 }], 0, 1, [], 'feed'],
          // Frames of which the last would not fit beside the others.
          [
            [
              { do: 'commit', topics: [0, 0], bytes: 3000 },
              { do: 'commit', topics: [0, 0, 0], bytes: 400 },
              { do: 'commit', topics: [0], bytes: 9000 },
            ],
            [],
            1000,
            1,
            ['stream:a'],
            'feed',
          ],
        ],
      },
    );
  });

  it('never has a cursor that promises more than was sent', async () => {
    const world = new SubscriberWorld(100, 0, 1, ['stream:a', 'user:me']);
    const subscriber = world.subscribe();
    world.commit([0, 0, 0]);
    subscriber.start();
    await turn();
    subscriber.heartbeat();
    expect(blocks(world.socket.text).map(({ type }) => type)).not.to.include('cursor');
    expect(world.socket.text).to.match(/^:/);
  });

  it('whose replay is overtaken by retention is sent to ask again, and given nothing that has a gap before it', async () => {
    const world = new SubscriberWorld(100, 0, 1, ['stream:a', 'user:me']);
    const subscriber = world.subscribe();
    world.commit([0, 0, 0]);
    subscriber.start();
    await turn();
    world.oldest = 101;
    world.answerPage();
    await turn();
    expect(world.socket.ended).to.equal(true);
    expect(blocks(world.socket.text)).to.deep.equal([{ type: 'disconnect', id: undefined }]);
    expect(world.socket.text).to.contain('"reason":"unavailable"');
    expect(world.hub.subscribers.size).to.equal(0);
  });

  /** A live subscriber of one topic, with room for so many bytes, that must find what it has missed in the hub's window of two events. */
  async function startNarrow(bufferBytes: number) {
    const hub = new Hub({ maxEvents: 2, maxBytes: 1e9 });
    hub.begin(100, { epoch: 'e', firstId: 0, oldest: 0 });
    const socket = new SlowSocket();
    const errors: unknown[] = [];
    const subscriber = new Subscriber({
      hub,
      sink: socket,
      subscription: new Subscription({ mode: 'feed', topics: ['stream:a', 'stream:b'], own: [] }),
      cursor: 100,
      has: 100,
      pages: {
        page: () => Promise.reject(new Error('it is in the window')),
        ahead: () => {},
        forgo: () => {},
      },
      bufferBytes,
      retryMs: () => 1,
      onEnd: () => {},
      onReplayError: (error) => errors.push(error),
    });
    subscriber.start();
    await turn();
    socket.text = '';
    socket.drain();
    return { hub, socket, subscriber, errors };
  }

  /** 200 bytes on the wire. */
  const frameOf200 = (id: number, topic: string): OutboxEvent => {
    const bare = `event: test:happened\ndata: ""\nid: ${id}\n\n`.length;
    return { id, topic, type: 'test:happened', data: JSON.stringify('x'.repeat(200 - bare)) };
  };
  const untilLive = async ({ socket, subscriber }: Awaited<ReturnType<typeof startNarrow>>) => {
    while (subscriber.state === 'replaying') {
      socket.drain();
      await turn();
    }
  };
  const idsOf = (text: string) => blocks(text).map(({ id }) => id);

  for (const { of, topics } of [
    { of: 'one topic', topics: ['stream:a', 'stream:a', 'stream:a'] },
    { of: 'several topics', topics: ['stream:a', 'stream:b', 'stream:a'] },
  ]) {
    it(`takes a batch of ${of} for which there is just room, and replays what is one byte too much`, async () => {
      const batch = topics.map((topic, index) => frameOf200(111 + index, topic));
      const just = await startNarrow(600);
      just.hub.dispatch(batch);
      expect([just.subscriber.state, idsOf(just.socket.text)]).to.deep.equal(['live', [111, 112, 113]]);
      expect(just.subscriber.cursor).to.equal(113);
      just.socket.drain();
      just.socket.text = '';
      just.subscriber.heartbeat();
      expect(just.socket.text, 'it has everything: it need not be told').to.equal(':\n');

      const short = await startNarrow(599);
      // Others' events, which the window has forgotten: where it turns to replaying is in front of the frame, not behind its last one.
      short.hub.dispatch([101, 102, 103].map((id) => frameOf200(id, 'stream:others')));
      short.hub.dispatch(batch);
      expect([short.subscriber.state, idsOf(short.socket.text)]).to.deep.equal(['replaying', [111, 112]]);
      expect(short.subscriber.cursor).to.equal(112);
      await turn();
      expect(idsOf(short.socket.text), 'its socket has to take these first').to.deep.equal([111, 112]);
      await untilLive(short);
      expect([short.subscriber.state, idsOf(short.socket.text)]).to.deep.equal(['live', [111, 112, 113]]);

      // What waits for the socket counts.
      const waiting = await startNarrow(600);
      waiting.hub.dispatch([101, 102, 103].map((id) => frameOf200(id, 'stream:others')));
      waiting.subscriber.heartbeat();
      expect(waiting.socket.buffered).to.be.above(0);
      waiting.socket.text = '';
      waiting.hub.dispatch(batch);
      expect([waiting.subscriber.state, idsOf(waiting.socket.text)]).to.deep.equal(['replaying', [111, 112]]);

      // The first one at once: nothing is taken, and nothing but the window is asked.
      const none = await startNarrow(199);
      none.hub.dispatch([101, 102, 103].map((id) => frameOf200(id, 'stream:others')));
      none.hub.dispatch(batch.slice(0, 2));
      expect([none.subscriber.state, none.subscriber.cursor, none.socket.text]).to.deep.equal([
        'replaying',
        110,
        '',
      ]);
      await untilLive(none);
      expect([none.subscriber.state, idsOf(none.socket.text)]).to.deep.equal(['live', [111, 112]]);
      expect([just, short, waiting, none].flatMap(({ errors }) => errors)).to.deep.equal([]);
    });
  }

  /** A subscriber whose client has everything up to 104, though the hub is at 100 only. */
  async function startAhead({ hub }: SubscriberWorld): Promise<SlowSocket> {
    const got = new SlowSocket();
    new Subscriber({
      hub,
      sink: got,
      subscription: new Subscription({ mode: 'feed', topics: ['stream:a'], own: ['user:me'] }),
      cursor: 100,
      has: 104,
      pages: {
        page: () => Promise.reject(new Error('no need to replay')),
        ahead: () => {},
        forgo: () => {},
      },
      bufferBytes: BUFFER,
      retryMs: () => 1,
      onEnd: () => {},
      onReplayError: () => {},
    }).start();
    await turn();
    return got;
  }

  it('that asked for a topic by name hears its own, and is not given what others say there', async () => {
    const world = new SubscriberWorld(100, 1000, 1, ['stream:a', 'user:me']);
    const got = await startAhead(world);
    world.commit([0, 0, 0, 0]);
    world.commit([3, 3]);
    world.commit([3, 0]);
    const wanted = world.events.filter(({ id, topic }) => id > 104 && topic === 'stream:a');
    expect(
      blocks(got.text)
        .slice(1)
        .map(({ id }) => id),
    ).to.deep.equal(wanted.map(({ id }) => id));
  });

  it('that is ahead of this hub is live at once and waits for what comes after its cursor', async () => {
    const world = new SubscriberWorld(100, 1000, 1, ['stream:a', 'user:me']);
    const got = await startAhead(world);
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

  it('that says it is ahead loses what is revoked before the place where it says it is', async () => {
    const world = new SubscriberWorld(100, 1000, 1, ['stream:a', 'user:me']);
    const got = await startAhead(world);
    world.access('revoke', 0, [0, 0, 0, 0]);
    expect(world.events[0]?.id).to.be.below(104);
    expect(world.events.at(-1)?.id).to.be.above(104);
    expect(blocks(got.text)).to.deep.equal([{ type: 'caught-up', id: 104 }]);
  });
});
