import { expect } from 'chai';
import fc from 'fast-check';
import { ReplayWindow } from '../../src/hub/replay-window.ts';
import { encodeEvent, encodePage, type Frame } from '../../src/sse/frame.ts';

interface Push {
  /** From the id before to this one. */
  readonly gap: number;
  readonly topic: string;
  /** About the size of the payload. */
  readonly bytes: number;
}

/** Every third id changes access. */
function frame(id: number, { topic, bytes }: Pick<Push, 'topic' | 'bytes'>): Frame {
  return encodeEvent({
    id,
    topic,
    type: id % 3 === 0 ? 'access:granted' : 'test:happened',
    data: JSON.stringify({ topic: `stream:${id}`, text: 'x'.repeat(bytes) }),
  });
}

/** All that a frame is, whichever object it is. */
function contentOf({ id, topic, chunk, access }: Frame): unknown {
  return { id, topic, text: chunk.bytes.toString(), framed: chunk.framed.toString(), access };
}

/** The same, in the plainest way: every frame in an array, the limits worked out from the end. */
class Model {
  start: number;
  kept: Frame[] = [];
  readonly #limits: { maxEvents: number; maxBytes: number };

  constructor(start: number, limits: { maxEvents: number; maxBytes: number }) {
    this.start = start;
    this.#limits = limits;
  }

  get bytes(): number {
    return this.kept.reduce((sum, { chunk }) => sum + chunk.length, 0);
  }

  push(pushed: Frame): void {
    this.kept.push(pushed);
    while (this.kept.length > this.#limits.maxEvents || this.bytes > this.#limits.maxBytes)
      this.start = this.kept.shift()?.id ?? this.start;
  }

  after(cursor: number): Frame[] | undefined {
    return cursor < this.start ? undefined : this.kept.filter(({ id }) => id > cursor);
  }
}

function expectSame(window: ReplayWindow, model: Model, cursor: number, max: number): void {
  expect(window.start).to.equal(model.start);
  expect(window.events).to.equal(model.kept.length);
  expect(window.bytes).to.equal(model.bytes);
  expect(window.after(cursor, max)?.map(contentOf)).to.deep.equal(
    model.after(cursor)?.slice(0, max).map(contentOf),
  );
  expect(window.accessAfter(cursor)?.map(contentOf)).to.deep.equal(
    model
      .after(cursor)
      ?.filter(({ access }) => access !== undefined)
      .map(contentOf),
  );
}

const PLAIN = { topic: 'stream:x', bytes: 100 };

describe('the replay window', () => {
  it('holds the newest events within both bounds, and says no to a cursor that it cannot tell of', () => {
    const push = fc.record({
      gap: fc.integer({ min: 1, max: 4 }),
      topic: fc.constantFrom('stream:x', 'user:someone-or-other', 'stream:ä€😀'),
      bytes: fc.nat(200),
    });
    fc.assert(
      fc.property(
        fc.oneof(fc.nat(50), fc.integer({ min: 2 ** 47, max: 2 ** 47 + 50 })),
        fc.array(push, { maxLength: 60 }),
        fc.nat(30),
        fc.nat(3000),
        (start, pushes, maxEvents, maxBytes) => {
          const window = new ReplayWindow(start, { maxEvents, maxBytes });
          const model = new Model(start, { maxEvents, maxBytes });
          let id = start;
          for (const pushed of pushes) {
            id += pushed.gap;
            window.push(frame(id, pushed));
            model.push(frame(id, pushed));
          }
          for (let cursor = start - 1; cursor <= id + 1; cursor += 1)
            for (const max of [1, 3, 100]) expectSame(window, model, cursor, max);
        },
      ),
    );
  });

  it('is the same however its events share their blocks, and whoever asks in between', () => {
    const push = fc.record({
      gap: fc.integer({ min: 1, max: 4 }),
      topic: fc.constantFrom('stream:x', `user:${'y'.repeat(100)}`, 'stream:ä€😀'),
      // Some that fill a block with few others, and some for which a block is too small.
      bytes: fc.oneof(
        { weight: 40, arbitrary: fc.nat(200) },
        { weight: 4, arbitrary: fc.nat(20_000) },
        { weight: 1, arbitrary: fc.integer({ min: 60_000, max: 70_000 }) },
      ),
    });
    // Runs of one event and another, or fast-check would take its time to make so many.
    const runs = fc.array(fc.record({ push, times: fc.integer({ min: 1, max: 300 }) }), {
      minLength: 3,
      maxLength: 12,
    });
    fc.assert(
      fc.property(
        runs,
        fc.integer({ min: 1, max: 1500 }),
        fc.integer({ min: 1000, max: 400_000 }),
        fc.integer({ min: 1, max: 400 }),
        (pushes, maxEvents, maxBytes, every) => {
          const window = new ReplayWindow(0, { maxEvents, maxBytes });
          const model = new Model(0, { maxEvents, maxBytes });
          let [id, count] = [0, 0];
          for (const { push: pushed, times } of pushes) {
            for (let n = 0; n < Math.min(times, 400_000 / (pushed.bytes + 1)); n += 1) {
              id += pushed.gap;
              window.push(frame(id, pushed));
              model.push(frame(id, pushed));
              count += 1;
              if (count % every === 0) expectSame(window, model, id - 40, 30);
            }
          }
          for (const cursor of [model.start - 1, model.start, Math.floor((model.start + id) / 2), id])
            expectSame(window, model, cursor, 1_000_000);
        },
      ),
      { numRuns: 40 },
    );
  }).timeout(60_000);

  it('is the same where a block is left with room that a later event would fit in', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(40_000), { minLength: 30, maxLength: 60 }),
        fc.integer({ min: 1, max: 8 }),
        (sizes, maxEvents) => {
          const window = new ReplayWindow(0, { maxEvents, maxBytes: 1e9 });
          const model = new Model(0, { maxEvents, maxBytes: 1e9 });
          for (const [index, bytes] of sizes.entries()) {
            window.push(frame(index + 1, { ...PLAIN, bytes }));
            model.push(frame(index + 1, { ...PLAIN, bytes }));
            expectSame(window, model, model.start, maxEvents);
          }
        },
      ),
    );
  });

  it('takes an event that is larger than a block, whatever its topic', () => {
    const window = new ReplayWindow(0, { maxEvents: 10, maxBytes: 1e9 });
    const large = { topic: 'stream:ä€😀', bytes: 100_000 };
    window.push(frame(1, large));
    expect(window.after(0, 10)?.map(contentOf)).to.deep.equal([contentOf(frame(1, large))]);
  });

  it('is the same where a block is filled to its last byte, and where one more is missing', () => {
    const first = frame(1, { ...PLAIN, bytes: 30_000 });
    const spent = first.chunk.length + first.topic.length + frame(2, { ...PLAIN, bytes: 0 }).chunk.length;
    for (let missing = -3; missing <= 3; missing += 1) {
      const window = new ReplayWindow(0, { maxEvents: 10, maxBytes: 1e9 });
      const second = frame(2, { ...PLAIN, bytes: 65_536 - spent - PLAIN.topic.length + missing });
      for (const pushed of [first, second, frame(3, PLAIN)]) window.push(pushed);
      expect(window.after(0, 10)?.map(contentOf)).to.deep.equal(
        [first, second, frame(3, PLAIN)].map(contentOf),
      );
    }
  });

  it('takes frames that were encoded together', () => {
    const window = new ReplayWindow(0, { maxEvents: 1000, maxBytes: 1e9 });
    const page = encodePage(
      Array.from({ length: 600 }, (_, n) => ({
        id: n + 1,
        topic: `stream:${n}`,
        type: 'test:happened',
        data: JSON.stringify('x'.repeat(300)),
      })),
    );
    for (const pushed of page.filter(({ id }) => id % 2 === 0)) window.push(pushed);
    expect(window.after(0, 1000)?.map(contentOf)).to.deep.equal(
      page.filter(({ id }) => id % 2 === 0).map(contentOf),
    );
  });

  it('changes nothing in what it gave while its blocks are filled again', () => {
    const window = new ReplayWindow(0, { maxEvents: 300, maxBytes: 1e9 });
    let id = 0;
    const more = (count: number): void => {
      for (let n = 0; n < count; n += 1) {
        id += 1;
        window.push(frame(id, PLAIN));
      }
    };
    more(300);
    const given = window.after(0, 300) ?? [];
    const before = given.map(contentOf);
    more(5000);
    expect(given.map(contentOf)).to.deep.equal(before);
    expect(given[0]?.chunk.bytes.toString()).to.include('id: 1\n');
  });

  it('gives the same frames to all who ask at about the same time, so that they share what is made of them', () => {
    const window = new ReplayWindow(0, { maxEvents: 1000, maxBytes: 1e9 });
    for (let id = 1; id <= 400; id += 1) window.push(frame(id, PLAIN));
    const first = window.after(0, 1000) ?? [];
    window.push(frame(401, PLAIN));
    const second = window.after(0, 1000) ?? [];
    expect(second).to.have.lengthOf(401);
    expect(first.every((given, index) => given === second[index])).to.equal(true);
  });
});
