import { expect } from 'chai';
import { createParser } from 'eventsource-parser';
import type { Subscriber } from '../../src/hub/subscriber.ts';
import { SubscriberWorld } from '../support/subscriber-world.ts';

/** Lets everything that is not waiting for the database go on. */
async function turn(): Promise<void> {
  for (let i = 0; i < 4; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Types and ids of what the client got. */
function got(world: SubscriberWorld): string[] {
  const found: string[] = [];
  createParser({ onEvent: ({ event, id }) => found.push(`${event} ${id}`) }).feed(world.socket.text);
  return found;
}

describe('a replay from the database', () => {
  let world: SubscriberWorld;

  /** A client that takes everything at once and has missed what is committed before it is started; two events a page. */
  function quickWorld(windowEvents = 0): SubscriberWorld {
    const made = new SubscriberWorld(100, windowEvents, 2, ['stream:a', 'user:me']);
    made.socket.quick = true;
    return made;
  }

  const id = (index: number): number => world.events.at(index)?.id ?? Number.NaN;

  async function answer(): Promise<void> {
    world.answerPage();
    await turn();
  }

  /** A subscriber that has missed five events of a topic and has been answered one page. */
  async function missFive(): Promise<Subscriber> {
    const subscriber = world.subscribe();
    world.commit([0, 0, 0, 0, 0]);
    subscriber.start();
    await turn();
    await answer();
    return subscriber;
  }

  async function answerAll(): Promise<void> {
    for (let answered = -1; answered < world.asked.length; answered += 1) await answer();
  }

  const delivered = () => world.expected.map((event) => `test:happened ${event}`);

  it('reads the next page while this one is written, each page once, and nothing beyond the end', async () => {
    world = quickWorld();
    const subscriber = await missFive();
    expect(world.asked).to.deep.equal(['stream:a,user:me 100', `stream:a,user:me ${id(1)}`]);
    expect(got(world)).to.deep.equal(delivered().slice(0, 2));
    await answerAll();
    expect(world.asked).to.have.length(3);
    expect([world.pages.readAhead, world.pages.hits]).to.deep.equal([2, 0]);
    expect(got(world)).to.deep.equal([...delivered(), `caught-up ${id(4)}`]);
    expect(subscriber.state).to.equal('live');
  });

  it('reads nothing ahead for a client that is slow', async () => {
    world = quickWorld();
    world.socket.quick = false;
    await missFive();
    expect(got(world)).to.deep.equal(delivered().slice(0, 2));
    expect(world.asked).to.have.length(1);
    world.socket.drain();
    await turn();
    expect(world.asked).to.have.length(2);
    expect(world.pages.readAhead).to.equal(0);
  });

  it('reads nothing ahead that the window holds', async () => {
    world = quickWorld(3);
    await missFive();
    expect(world.asked).to.have.length(1);
    expect(got(world)).to.deep.equal([...delivered(), `caught-up ${id(4)}`]);
  });

  it('reads ahead what it will hear: a topic gained in this page is in the next, one lost is not', async () => {
    world = quickWorld();
    const subscriber = world.subscribe();
    world.commit([0, 1]);
    world.access('grant', 1, [1, 0, 1]);
    world.access('revoke', 0, [0, 1, 0, 1]);
    subscriber.start();
    await turn();
    await answerAll();
    expect(world.asked).to.deep.equal([
      'stream:a,user:me 100',
      `stream:a,user:me,stream:b ${id(2)}`,
      `stream:a,user:me,stream:b ${id(4)}`,
      `user:me,stream:b ${id(6)}`,
    ]);
    expect(world.pages.readAhead).to.equal(3);
    const types = new Map(world.events.map((event) => [event.id, event.type]));
    expect(got(world)).to.deep.equal([
      ...world.expected.map((event) => `${types.get(event)} ${event}`),
      `caught-up ${id(-1)}`,
    ]);
    expect(subscriber.state).to.equal('live');
  });

  it('of somebody who goes leaves its page to whoever comes next, and writes nothing more', async () => {
    world = quickWorld();
    const subscriber = await missFive();
    subscriber.closed();
    const text = world.socket.text;
    await answerAll();
    expect(world.socket.text).to.equal(text);
    const next = world.subscribe();
    next.start();
    await answerAll();
    expect(world.asked, 'two read before, one for the next').to.have.length(3);
    expect(next.state).to.equal('live');
    expect(got(world).slice(2)).to.deep.equal([...delivered(), `caught-up ${id(4)}`]);
  });

  it('of those who go, however many, takes nobody else a place to read ahead', async () => {
    world = quickWorld();
    world.commit(Array.from({ length: 40 }, () => 0));
    for (const mode of ['all', 'feed'] as const) {
      const leaver = world.subscribe(mode);
      leaver.start();
      await turn();
      // While it waits for its turn to take the next page.
      const { write } = world.socket;
      world.socket.write = (chunk) => {
        write.call(world.socket, chunk);
        process.nextTick(() => leaver.closed());
      };
      await answer();
      world.socket.write = write;
      expect(leaver.state).to.equal('ended');
      await answer();
    }
    expect(world.pages.readAhead, 'as many as may wait').to.equal(2);
    // Other topics than theirs.
    world.access('grant', 1, []);
    const next = world.subscribe();
    next.start();
    await turn();
    await answerAll();
    expect(next.state).to.equal('live');
    expect(world.pages.readAhead, 'all of its pages but the first').to.equal(2 + 20);
  });

  it('ends with the history that it was reading ahead in', async () => {
    world = quickWorld();
    const subscriber = await missFive();
    world.hub.begin(1_000_000, { epoch: 'f', firstId: 1_000_000, oldest: 1_000_000 });
    await answerAll();
    expect(subscriber.state).to.equal('ended');
    expect(got(world)).to.deep.equal([...delivered().slice(0, 2), 'disconnect undefined']);
  });

  it('ends where retention passes the page that was being read ahead', async () => {
    world = quickWorld();
    await missFive();
    world.oldest = id(2);
    await answerAll();
    expect(got(world)).to.deep.equal([...delivered().slice(0, 2), 'disconnect undefined']);
    expect(world.socket.text).to.contain('"reason":"unavailable"');
  });
});
