import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { Turns } from '../../src/hub/turns.ts';
import { waitFor } from '../support/wait-for.ts';

/** Keeps the event loop busy for so long. */
function work(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe('turns', () => {
  it('let others run between the shares of many who wait, first come first served', async () => {
    const turns = new Turns(3);
    const done: number[] = [];
    const stepMs = 0.5;
    const step = async (n: number): Promise<void> => {
      await turns.take();
      work(stepMs);
      done.push(n);
    };
    const steps = Array.from({ length: 3000 }, (_, n) => step(n));
    let others = 0;
    let most = 0;
    while (done.length < steps.length) {
      const before = done.length;
      await setImmediate();
      others += 1;
      most = Math.max(most, done.length - before);
    }
    await Promise.all(steps);
    expect(done).to.deep.equal(done.toSorted((a, b) => a - b));
    // A share is cut by the clock, and one more step may have begun by then.
    expect(most).to.be.at.most(3 / stepMs + 1);
    expect(others).to.be.at.least(3000 / (3 / stepMs + 1) - 1);
    expect(turns.waiting).to.equal(0);
  });

  it('come again to whoever asks again, without end and without keeping who has had one', async () => {
    const turns = new Turns(1);
    let over = false;
    const count = [0, 0, 0];
    const runner = async (n: number): Promise<void> => {
      while (!over) {
        await turns.take();
        count[n] = (count[n] ?? 0) + 1;
      }
    };
    const runners = count.map((_, n) => runner(n));
    await waitFor(() => Math.min(...count) > 3000, { what: 'turns' });
    expect(Math.max(...count) - Math.min(...count)).to.be.at.most(1);
    expect(turns.waiting).to.be.at.most(3);
    over = true;
    await Promise.all(runners);
  });
});
