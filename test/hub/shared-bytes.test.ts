import { expect } from 'chai';
import fc from 'fast-check';
import { SharedBytes } from '../../src/hub/shared-bytes.ts';
import { encodeEvent } from '../../src/sse/frame.ts';

const frames = Array.from({ length: 12 }, (_, i) =>
  encodeEvent({ id: i + 1, topic: 'stream:x', type: 'test:happened', data: `{"n":${i}}` }),
);

describe('shared bytes', () => {
  it('give each subscriber its own frames, and those with the same frames one and the same buffer', () => {
    // Each subscriber takes the frames of its mask; frames are offered in order, each to all, as the hub does.
    fc.assert(
      fc.property(fc.array(fc.nat(2 ** frames.length - 1), { minLength: 1, maxLength: 12 }), (masks) => {
        const nothing = new SharedBytes();
        const taken = masks.map(() => nothing);
        for (const [index, frame] of frames.entries()) {
          for (const [who, mask] of masks.entries())
            if (mask & (1 << index)) taken[who] = (taken[who] ?? nothing).follow(frame);
        }
        for (const [who, mask] of masks.entries()) {
          const own = frames.filter((_, index) => mask & (1 << index)).map(({ chunk }) => chunk.bytes);
          const shared = taken[who];
          expect(
            (own.length === 0 ? Buffer.alloc(0) : shared?.chunk().bytes)?.equals(Buffer.concat(own)),
          ).to.equal(true);
          expect(shared?.length).to.equal(Buffer.concat(own).length);
          const twin = masks.indexOf(mask);
          if (own.length > 0) expect(shared?.chunk()).to.equal(taken[twin]?.chunk());
        }
      }),
    );
  });

  it('copy nothing for a single frame', () => {
    const [frame] = frames;
    if (frame === undefined) throw new Error('unreachable');
    expect(new SharedBytes().follow(frame).chunk()).to.equal(frame.chunk);
  });
});
