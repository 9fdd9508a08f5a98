import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { ReplayWindow } from '../../src/hub/replay-window.ts';
import { encodeEvent, type Frame } from '../../src/sse/frame.ts';

/** Every third id changes access. */
function frame(id: number, { topic, bytes }: { topic: string; bytes: number }): Frame {
  return encodeEvent({
    id,
    topic,
    type: id % 3 === 0 ? 'access:granted' : 'test:happened',
    data: JSON.stringify({ topic: `stream:${id}`, text: 'x'.repeat(bytes) }),
  });
}

/** What JavaScript's objects take, and the buffers that they own, with nothing left that could be collected, in bytes. */
function memory(): { readonly heap: number; readonly buffers: number } {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  // The second one finds the buffers given back that the first one has found to be of no use.
  collectGarbage();
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return { heap: heapUsed, buffers: arrayBuffers };
}

const PLAIN = { topic: 'stream:x', bytes: 100 };

describe('the memory of the replay window', () => {
  it('leaves the collector nothing to do, however many events go through it', () => {
    const window = new ReplayWindow(0, { maxEvents: 20_000, maxBytes: 1e9 });
    // No third id: those that change access are few in life, and kept as they are.
    const push = (n: number): void => window.push(frame(n * 3 + 1, { ...PLAIN, topic: `stream:${n}` }));
    const empty = memory();
    for (let n = 0; n < 20_000; n += 1) push(n);
    const full = memory();
    // An object for each of them, with its bytes and its topic, would be 400 bytes at least.
    expect((full.heap - empty.heap) / 20_000).to.be.lessThan(50);
    expect(window.events).to.equal(20_000);
  });

  it('fills its blocks again', () => {
    const window = new ReplayWindow(0, { maxEvents: 2000, maxBytes: 1e9 });
    const small = frame(1, PLAIN);
    const large = frame(1, { ...PLAIN, bytes: 80_000 });
    let id = 0;
    const push = (again: Frame): void => {
      id += 1;
      window.push({ ...again, id });
    };
    for (let n = 0; n < 4000; n += 1) push(small);
    // Not collected in between: what was allocated and is of no use would count as well.
    const before = process.memoryUsage().arrayBuffers;
    for (let n = 0; n < 100_000; n += 1) push(small);
    expect(process.memoryUsage().arrayBuffers - before, 'small ones').to.be.lessThan(3 * 65_536);
    const then = process.memoryUsage().arrayBuffers;
    for (let n = 0; n < 4000; n += 1) push(n % 400 === 0 ? large : small);
    expect(process.memoryUsage().arrayBuffers - then, 'and ten large ones').to.be.lessThan(
      // Each of the five that are in the window at a time has ended a block early.
      10 * (large.chunk.length + 100) + 7 * 65_536,
    );
  });

  it('keeps nothing of what has left it', () => {
    const window = new ReplayWindow(0, { maxEvents: 100, maxBytes: 1e9 });
    let id = 0;
    const pushMany = (): void => {
      for (let n = 0; n < 20_000; n += 1) {
        id += 3;
        window.push(frame(id, PLAIN));
      }
    };
    pushMany();
    const before = memory();
    pushMany();
    expect(memory().heap - before.heap, 'events that change access').to.be.lessThan(1_000_000);
    id += 1;
    window.push(frame(id, { ...PLAIN, bytes: 10_000_000 }));
    pushMany();
    expect(memory().buffers - before.buffers, 'a large event').to.be.lessThan(1_000_000);
  });

  it('lets go of what it gave when nobody holds it any more, and gives it again', async () => {
    const window = new ReplayWindow(0, { maxEvents: 20_000, maxBytes: 1e9 });
    for (let id = 1; id <= 20_000; id += 1) window.push(frame(id, PLAIN));
    const before = memory();
    expect(window.after(0, 20_000)).to.have.lengthOf(20_000);
    // What was looked at is held until the present turn of the event loop ends.
    await new Promise((resolve) => setImmediate(resolve));
    expect((memory().heap - before.heap) / 20_000).to.be.lessThan(100);
    const again = window.after(19_990, 10);
    expect(again?.map(({ id, chunk }) => [id, chunk.bytes.toString()])).to.deep.equal(
      Array.from({ length: 10 }, (_, n) => [19_991 + n, frame(19_991 + n, PLAIN).chunk.bytes.toString()]),
    );
    expect(window.after(19_990, 10)?.every((given, index) => given === again?.[index])).to.equal(true);
  });
});
