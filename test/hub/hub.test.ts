import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { Bundle } from '../../src/hub/bundle.ts';
import { Hub } from '../../src/hub/hub.ts';
import { SharedBytes } from '../../src/hub/shared-bytes.ts';
import type { Sink } from '../../src/hub/sink.ts';
import { Subscriber } from '../../src/hub/subscriber.ts';
import { Subscription } from '../../src/hub/subscription.ts';
import type { Chunk } from '../../src/sse/chunk.ts';
import { encodeEvent } from '../../src/sse/frame.ts';
import { WriteBatch } from '../../src/sse/write-batch.ts';
import { SlowSocket } from '../support/subscriber-world.ts';
import { waitFor } from '../support/wait-for.ts';

describe('a hub', () => {
  function world() {
    const hub = new Hub({ maxEvents: 10, maxBytes: 1e6 });
    hub.begin(5, { epoch: 'e', firstId: 0, oldest: 0 });
    const socket = new SlowSocket();
    const reasons: string[] = [];
    const join = (sink: Sink, mode: 'feed' | 'all' | 'named' = 'feed', topics = ['user:me']): Subscriber =>
      new Subscriber({
        hub,
        sink,
        subscription: new Subscription({
          mode,
          topics,
          named: topics,
          own: ['user:me', 'wallet:mine'],
          known: [],
        }),
        cursor: 5,
        has: 5,
        pages: {
          page: () => Promise.reject(new Error('nothing is to be replayed')),
          ahead: () => {},
          forgo: () => {},
        },
        bufferBytes: 16_384,
        retryMs: () => 1000,
        onEnd: (reason) => reasons.push(reason),
        onReplayError: (error) => reasons.push(String(error)),
      });
    return { hub, socket, subscriber: join(socket), reasons, join };
  }

  it('stays where it is when there is nothing to dispatch', () => {
    const { hub } = world();
    hub.dispatch([]);
    expect(hub.cursor).to.equal(5);
    expect(hub.window.events).to.equal(0);
  });

  it('gives nothing more to a subscriber that has ended, and ends it once', () => {
    const { hub, socket, subscriber, reasons } = world();
    subscriber.start();
    subscriber.end('max_age');
    subscriber.end('draining');
    const said = socket.text;
    hub.dispatch([{ id: 6, topic: 'user:me', type: 'test:happened', data: '{}' }]);
    subscriber.flush(new SharedBytes(), new WriteBatch());
    subscriber.heartbeat();
    expect(socket.text).to.equal(said).and.to.contain('max_age');
    expect(reasons).to.deep.equal(['max_age']);
    expect(hub.subscribers.size).to.equal(0);
  });

  it('decides for everybody what they get before it writes to anybody', async () => {
    const { hub, join } = world();
    const sockets: SlowSocket[] = [];
    /** What anybody had been written when a subscriber took its part. */
    let early = '';
    class Watching extends SlowSocket {
      override write(chunk: Chunk, batch?: WriteBatch): void {
        early += sockets.map(({ text }) => text).join('');
        super.write(chunk, batch);
      }
    }
    const subscribers = (['feed', 'feed', 'all', 'all'] as const).map((mode, n) => {
      const socket = new Watching();
      socket.quick = true;
      sockets.push(socket);
      return join(socket, mode, ['user:me', `stream:${n}`]);
    });
    for (const subscriber of subscribers) subscriber.start();
    await waitFor(() => subscribers.every(({ state }) => state === 'live'), { what: 'all to be live' });
    const dispatch = (...topics: string[]): string => {
      early = '';
      for (const socket of sockets) socket.text = '';
      const first = hub.cursor + 1;
      hub.dispatch(topics.map((topic, n) => ({ id: first + n, topic, type: 'test:happened', data: '{}' })));
      return sockets.map(({ text }) => text.match(/id: \d+/g)?.length).join();
    };
    expect([dispatch('user:me', 'user:me'), early]).to.deep.equal(['2,2,2,2', '']);
    // Two topics, each heard by one of the first two.
    expect([dispatch('stream:0', 'stream:1'), early]).to.deep.equal(['1,1,2,2', '']);
    // Two topics that both of them hear, or one of them.
    expect([dispatch('user:me', 'stream:0', 'user:me'), early]).to.deep.equal(['3,2,3,3', '']);
  });

  it('writes the last event of a stream before it ends it', async () => {
    const { hub, socket, join } = world();
    const named = join(socket, 'named', ['wallet:mine']);
    named.start();
    await waitFor(() => named.state === 'live', { what: 'it to be live' });
    const data = JSON.stringify({ topic: 'wallet:mine' });
    hub.dispatch([{ id: 6, topic: 'wallet:mine', type: 'access:revoked', data }]);
    expect([named.state, socket.ended]).to.deep.equal(['ended', true]);
    expect(socket.text).to.match(/id: 6\n\nretry: 1000\nevent: disconnect\n/);
  });

  it('sends everybody away when it fails in the middle of several topics: none goes on with a gap', async () => {
    const { hub, join } = world();
    const [broken, healthy] = [new SlowSocket(), new SlowSocket()];
    const subscribers = [broken, healthy].map((socket) => join(socket, 'feed', ['stream:a', 'stream:b']));
    for (const subscriber of subscribers) subscriber.start();
    await waitFor(() => subscribers.every(({ state }) => state === 'live'), { what: 'both to be live' });
    broken.ended = true;
    const happened = (id: number, topic: string) => ({ id, topic, type: 'test:happened', data: '{}' });
    expect(() => hub.dispatch([happened(6, 'stream:a'), happened(7, 'stream:b')])).to.throw('after the end');
    hub.dispatch([happened(8, 'stream:a'), happened(9, 'stream:b')]);
    expect(subscribers.map(({ state }) => state)).to.deep.equal(['ended', 'ended']);
    expect([broken.isCut, healthy.isCut], 'who cannot be told').to.deep.equal([true, false]);
    expect(healthy.text)
      .to.match(/event: disconnect\ndata: \{"reason":"unavailable"/)
      .and.not.contain('id: 8');
    expect(hub.subscribers.size).to.equal(0);
  });

  it('keeps nothing of what it has handed on in several topics', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const { socket, join } = world();
    socket.quick = true;
    const subscriber = join(socket, 'feed', ['stream:a', 'stream:b']);
    subscriber.start();
    await waitFor(() => subscriber.state === 'live', { what: 'it to be live' });
    const bundles: WeakRef<Bundle>[] = [];
    const nothing = new SharedBytes();
    const hand = (): void => {
      for (const id of [6, 7, 8]) {
        const event = { id, topic: `stream:${id % 2 ? 'a' : 'b'}`, type: 'test:happened', data: '{}' };
        const bundle = new Bundle([encodeEvent(event)]);
        bundles.push(new WeakRef(bundle));
        subscriber.offer(bundle);
      }
      const batch = new WriteBatch();
      subscriber.flush(nothing, batch);
      batch.flush();
    };
    hand();
    expect(socket.text).to.contain('id: 8');
    await setImmediate();
    collect();
    expect(bundles.filter((bundle) => bundle.deref() !== undefined)).to.deep.equal([]);
  });

  it('writes what subscribers have taken, even if one of them cannot take it', async () => {
    const { hub, socket, subscriber, join } = world();
    const broken = new SlowSocket();
    const others = join(broken);
    subscriber.start();
    others.start();
    await waitFor(() => subscriber.state === 'live' && others.state === 'live', { what: 'both to be live' });
    broken.ended = true;
    const event = { id: 6, topic: 'user:me', type: 'test:happened', data: '{}' };
    expect(() => hub.dispatch([event])).to.throw('after the end');
    expect(socket.text).to.contain('id: 6');
    expect([subscriber.cursor, hub.cursor]).to.deep.equal([6, 6]);
  });
});
