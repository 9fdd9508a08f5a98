import { expect } from 'chai';
import fc from 'fast-check';
import { ReplayWindow } from '../../src/hub/replay-window.ts';
import { encodeEvent, type Frame } from '../../src/sse/frame.ts';

/** Every third one changes access. */
function frame(id: number, bytes: number): Frame {
  return encodeEvent({
    id,
    topic: 'stream:x',
    type: id % 3 === 0 ? 'access:granted' : 'test:happened',
    data: JSON.stringify('x'.repeat(bytes)),
  });
}

/** The same, in the plainest way: every frame in an array, the limits worked out from the end. */
function model(start: number, frames: readonly Frame[], maxEvents: number, maxBytes: number) {
  let kept = frames.slice(Math.max(0, frames.length - maxEvents));
  while (kept.reduce((sum, { chunk }) => sum + chunk.length, 0) > maxBytes) kept = kept.slice(1);
  const dropped = frames.length - kept.length;
  return { kept, start: frames[dropped - 1]?.id ?? start };
}

describe('the replay window', () => {
  it('holds the newest events within both bounds, and says no to a cursor that it cannot tell of', () => {
    fc.assert(
      fc.property(
        fc.nat(50),
        fc.array(fc.record({ gap: fc.integer({ min: 1, max: 4 }), bytes: fc.nat(200) }), { maxLength: 60 }),
        fc.nat(30),
        fc.nat(3000),
        (start, pushes, maxEvents, maxBytes) => {
          const window = new ReplayWindow(start, { maxEvents, maxBytes });
          const frames: Frame[] = [];
          let id = start;
          for (const { gap, bytes } of pushes) {
            id += gap;
            frames.push(frame(id, bytes));
            window.push(frames.at(-1) as Frame);
          }
          const expected = model(start, frames, maxEvents, maxBytes);
          expect(window.start).to.equal(expected.start);
          expect(window.events).to.equal(expected.kept.length);
          expect(window.bytes).to.equal(expected.kept.reduce((sum, { chunk }) => sum + chunk.length, 0));
          for (let cursor = start - 1; cursor <= id + 1; cursor += 1) {
            for (const max of [1, 3, 100]) {
              const answer = window.after(cursor, max)?.map((found) => found.id);
              const wanted =
                cursor < expected.start
                  ? undefined
                  : expected.kept.filter((kept) => kept.id > cursor).slice(0, max);
              expect(answer).to.deep.equal(wanted?.map((kept) => kept.id));
            }
            const access = expected.kept.filter((kept) => kept.id > cursor && kept.id % 3 === 0);
            expect(window.accessAfter(cursor)?.map((found) => found.id)).to.deep.equal(
              cursor < expected.start ? undefined : access.map((kept) => kept.id),
            );
          }
        },
      ),
    );
  });

  it('stays right while its array is cut, thousands of events on', () => {
    const window = new ReplayWindow(0, { maxEvents: 100, maxBytes: 1e9 });
    for (let id = 1; id <= 10_000; id += 1) {
      window.push(frame(id, 1));
      if (id % 97 === 0) {
        const oldest = Math.max(0, id - 100);
        expect(window.start).to.equal(oldest);
        expect(window.after(oldest, 1000)?.map((found) => found.id)).to.deep.equal(
          Array.from({ length: id - oldest }, (_, i) => oldest + 1 + i),
        );
        expect(window.after(oldest - 1, 1)).to.equal(undefined);
      }
    }
  });
});
