import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { SharedJoins } from '../../src/hub/shared-joins.ts';
import { Chunk } from '../../src/sse/chunk.ts';
import { SlowSocket, SubscriberWorld } from '../support/subscriber-world.ts';

describe('shared joins', () => {
  const [a, b, c, d] = ['a\n', 'bb\n', 'ccc\n', 'd\n'].map((text) => Chunk.of(text)) as [
    Chunk,
    Chunk,
    Chunk,
    Chunk,
  ];

  it('are one and the same for all who join the same parts in the same turn', () => {
    const joins = new SharedJoins();
    const joined = joins.join([a, b, c]);
    expect(joined.bytes.toString()).to.equal('a\nbb\nccc\n');
    expect(joins.join([a, b, c])).to.equal(joined);
    expect(joins.join([a, b, c]).framed, 'one buffer').to.equal(joined.framed);
    expect(joins.hits).to.equal(2);
  });

  it('differ where any part does, or their number', () => {
    const joins = new SharedJoins();
    const texts = [[a, b, c], [a, d, c], [a, b], [a, b, c, d], [b, c], [a, c, b], [a], [a, b, c]].map(
      (parts) => [joins.join(parts).bytes.toString(), parts.map((part) => part.bytes.toString()).join('')],
    );
    for (const [joined, expected] of texts) expect(joined).to.equal(expected);
    expect(joins.hits, 'the last is like the first').to.equal(1);
  });

  it('are forgotten with the turn, so that nobody keeps what no socket needs', async () => {
    const joins = new SharedJoins();
    const joined = joins.join([a, b]);
    await nextTurn();
    expect(joins.join([a, b])).not.to.equal(joined);
    expect(joins.join([a, b]).bytes).to.deep.equal(joined.bytes);
    await nextTurn();
    expect(joins.join([a, b]), 'and so on').not.to.equal(joined);
    expect(joins.hits).to.equal(1);
  });

  it('are memory for no longer than their turn, to the young collector already', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as (options?: { type: 'minor' }) => void;
    const parts = [Chunk.of('a'.repeat(32_768)), Chunk.of('b'.repeat(32_768))];
    const joins = new SharedJoins();
    joins.join(parts);
    // What is in it now is old.
    for (let time = 0; time < 3; time += 1) collect({ type: 'minor' });
    // And nothing of other tests is left to be collected meanwhile.
    collect();
    const before = process.memoryUsage().arrayBuffers;
    // Not so much that V8 would begin a full collection on its own.
    for (let turn = 0; turn < 600; turn += 1) {
      joins.join(parts);
      await nextTurn();
      if (turn % 10 === 9) collect({ type: 'minor' });
    }
    const grown = (process.memoryUsage().arrayBuffers - before) / 2 ** 20;
    // Less than nothing if something of other tests was let go meanwhile.
    expect(grown, 'MiB of 38').to.be.below(20);
  });

  it('are written to all who are behind by the same events, and to nobody else', async () => {
    const world = new SubscriberWorld(100, 1000, 1, ['stream:a', 'user:me']);
    world.commit([0, 1, 0, 3, 0]);
    const written: Buffer[][] = [];
    const start = (mode: 'feed' | 'all'): void => {
      const socket = new SlowSocket();
      const mine: Buffer[] = [];
      written.push(mine);
      const write = socket.write.bind(socket);
      socket.write = (chunk) => {
        mine.push(chunk.framed);
        write(chunk);
      };
      world.subscribe(mode, socket).start();
    };
    for (const mode of ['feed', 'all', 'feed'] as const) start(mode);
    for (let turn = 0; turn < 3; turn += 1) await nextTurn();
    const [feed, all, another] = written.map(([past]) => past);
    const ids = (bytes: Buffer | undefined): number[] =>
      Array.from(String(bytes).matchAll(/^id: (\d+)$/gm), ([, id]) => Number(id));
    expect(ids(feed)).to.deep.equal(world.expected).and.have.length(4);
    expect(another, 'one buffer').to.equal(feed);
    expect(ids(all), 'an administrator').to.deep.equal(world.events.map(({ id }) => id));
    expect(world.hub.joins.hits).to.equal(1);
  });

  it('copy nothing for a single part, and cannot be of nothing', () => {
    const joins = new SharedJoins();
    expect(joins.join([a])).to.equal(a);
    expect(() => joins.join([])).to.throw(RangeError);
  });
});
