import { expect } from 'chai';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { Subscriber } from '../../src/hub/subscriber.ts';
import { Subscription } from '../../src/hub/subscription.ts';
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
