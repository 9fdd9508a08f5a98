import { expect } from 'chai';
import type { Options } from 'express-rate-limit';
import { BoundedStore } from '../../src/http/bounded-store.ts';

describe('what a rate limit counts with', () => {
  let nowMs: number;
  let store: BoundedStore;

  beforeEach(() => {
    nowMs = 5000;
    store = new BoundedStore({ maxEntries: 3, clock: () => nowMs });
    store.init({ windowMs: 1000 } as Options);
  });

  const hit = (key: string): number => store.increment(key).totalHits;

  it('counts each key from its first hit until its window ends', () => {
    expect([hit('a'), hit('a'), hit('b')]).to.deep.equal([1, 2, 1]);
    nowMs += 999;
    expect(hit('a')).to.equal(3);
    expect(store.leftMs('a')).to.equal(1);
    nowMs += 1;
    expect(store.size).to.equal(0);
    expect(store.leftMs('a')).to.equal(0);
    expect(hit('a')).to.equal(1);
  });

  it('keeps no more keys than it may, and forgets the oldest', () => {
    for (const key of ['a', 'b', 'c']) hit(key);
    hit('a');
    expect([hit('d'), store.size, store.evictions]).to.deep.equal([1, 3, 1]);
    expect(hit('b'), 'b is still counted').to.equal(2);
    expect(hit('a'), 'a was the oldest').to.equal(1);
    for (let i = 0; i < 10_000; i += 1) hit(`made up ${i}`);
    expect(store.size).to.equal(3);
  });

  it('does as express-rate-limit asks: less one, and forget', () => {
    hit('a');
    hit('a');
    store.decrement('a');
    store.decrement('nobody');
    expect(hit('a')).to.equal(2);
    store.resetKey('a');
    store.decrement('a');
    expect(hit('a')).to.equal(1);
  });
});
