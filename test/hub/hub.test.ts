import { expect } from 'chai';
import { Hub } from '../../src/hub/hub.ts';
import { SharedBytes } from '../../src/hub/shared-bytes.ts';
import { Subscriber } from '../../src/hub/subscriber.ts';
import { Subscription } from '../../src/hub/subscription.ts';
import { SlowSocket } from '../support/subscriber-world.ts';

describe('a hub', () => {
  function world() {
    const hub = new Hub({ maxEvents: 10, maxBytes: 1e6 });
    hub.begin(5, { epoch: 'e', firstId: 0, oldest: 0 });
    const socket = new SlowSocket();
    const reasons: string[] = [];
    const subscriber = new Subscriber({
      hub,
      sink: socket,
      subscription: new Subscription({
        mode: 'feed',
        topics: ['user:me'],
        named: [],
        own: ['user:me'],
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
    return { hub, socket, subscriber, reasons };
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
    subscriber.flush(new SharedBytes());
    subscriber.heartbeat();
    expect(socket.text).to.equal(said).and.to.contain('max_age');
    expect(reasons).to.deep.equal(['max_age']);
    expect(hub.subscribers.size).to.equal(0);
  });
});
