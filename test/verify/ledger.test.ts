import { expect } from 'chai';
import fc from 'fast-check';
import { Ledger, type Tally } from '../../src/verify/ledger.ts';

const NOTHING: Tally = { delivered: 0, missed: 0, duplicated: 0, outOfOrder: 0, unexpected: 0 };

function compare(expected: readonly number[], received: readonly number[]): Tally {
  const ledger = new Ledger();
  ledger.expect(expected);
  for (const id of received) ledger.receive(id);
  return ledger.finish();
}

describe('the ledger of a subscriber', () => {
  it('tells what was missed, repeated, out of order and made up', () => {
    expect(compare([1, 2, 5], [1, 2, 5])).to.deep.equal({ ...NOTHING, delivered: 3 });
    expect(compare([1, 2, 5], [1, 5])).to.deep.equal({ ...NOTHING, delivered: 2, missed: 1 });
    expect(compare([1, 2, 5], [1, 2])).to.deep.equal({ ...NOTHING, delivered: 2, missed: 1 });
    expect(compare([1, 2, 5], [1, 2, 2, 5, 1])).to.deep.equal({ ...NOTHING, delivered: 3, duplicated: 2 });
    expect(compare([1, 2, 5], [2, 1, 5])).to.deep.equal({ ...NOTHING, delivered: 3, outOfOrder: 1 });
    expect(compare([1, 2, 5], [1, 2, 3, 5, 6])).to.deep.equal({ ...NOTHING, delivered: 3, unexpected: 2 });
    expect(compare([], [])).to.deep.equal(NOTHING);
  });

  it('comes to the same result in parts, and keeps nothing of what it has compared', () => {
    const ids = fc.uniqueArray(fc.integer({ min: 1, max: 60 })).map((each) => each.sort((a, b) => a - b));
    const parts = fc.array(fc.nat(3), { minLength: 1 });
    fc.assert(
      fc.property(ids, parts, (expected, sizes) => {
        const ledger = new Ledger();
        let row = 0;
        let event = 0;
        for (let turn = 0; event < expected.length; turn += 1) {
          const size = 1 + (sizes[turn % sizes.length] ?? 0);
          ledger.expect(expected.slice(row, row + size));
          row += size;
          for (const id of expected.slice(event, event + sizes.length)) ledger.receive(id);
          event += sizes.length;
          ledger.settle();
        }
        ledger.expect(expected.slice(row));
        ledger.settle();
        expect(ledger.owed).to.equal(0);
        expect(ledger.finish()).to.deep.equal({ ...NOTHING, delivered: expected.length });
      }),
    );
  });

  it('finds every loss and every repetition, whatever they are', () => {
    const events = fc.array(fc.tuple(fc.boolean(), fc.boolean()), { maxLength: 40 });
    fc.assert(
      fc.property(events, (each) => {
        const expected = each.map((_, index) => index + 1);
        const received = each.flatMap(([lost, twice], index) =>
          lost ? [] : twice ? [index + 1, index + 1] : [index + 1],
        );
        const missed = each.filter(([lost]) => lost).length;
        const duplicated = each.filter(([lost, twice]) => !lost && twice).length;
        const delivered = each.length - missed;
        expect(compare(expected, received)).to.deep.equal({ ...NOTHING, delivered, missed, duplicated });
      }),
    );
  });
});
