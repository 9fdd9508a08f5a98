import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { SharedPages } from '../../src/hub/shared-pages.ts';
import type { OutboxEvent } from '../../src/outbox/event.ts';
import type { Page } from '../../src/outbox/reader.ts';

const event = (id: number): OutboxEvent => ({
  id,
  topic: 'stream:x',
  type: 'test:happened',
  data: '{"n":1}',
});

/** Pages of two events; each read waits until it is answered. */
class Reads {
  readonly asked: string[] = [];
  readonly #answers: ((failed?: Error) => void)[] = [];

  readonly read = (topics: readonly string[] | 'all', after: number, through: number): Promise<Page> => {
    this.asked.push(`${topics} ${after} ${through}`);
    return new Promise((resolve, reject) => {
      this.#answers.push((failed) => {
        const events = [after + 1, after + 2].filter((id) => id <= through).map(event);
        if (failed === undefined) resolve({ events, reached: Math.min(after + 2, through), oldest: 0 });
        else reject(failed);
      });
    });
  };

  answer(failed?: Error): void {
    for (const answer of this.#answers.splice(0)) answer(failed);
  }
}

describe('shared pages', () => {
  let reads: Reads;
  let pages: SharedPages;
  let idle: boolean;

  beforeEach(() => {
    reads = new Reads();
    idle = true;
    pages = new SharedPages(reads.read, { maxBytes: 250, maxAhead: 2, idle: () => idle });
  });

  async function page(topics: readonly string[] | 'all', after: number, through = 100) {
    const asked = pages.page(topics, after, through);
    reads.answer();
    return asked;
  }

  it('are read once for all whose topics and cursors coincide, then and later, in whatever order they name them', async () => {
    const first = pages.page(['stream:x', 'stream:y'], 5, 100);
    const second = pages.page(['stream:y', 'stream:x'], 5, 120);
    reads.answer();
    const [one, two] = await Promise.all([first, second]);
    expect(two.frames).to.equal(one.frames);
    expect(one.frames.map(({ id }) => id)).to.deep.equal([6, 7]);
    expect((await pages.page(['stream:x', 'stream:y'], 5, 130)).frames).to.equal(one.frames);
    expect(reads.asked).to.deep.equal(['stream:x,stream:y 5 100']);
    expect(pages.hits).to.equal(2);
  });

  it('are not shared by others: other topics, other cursors, or a history that does not reach so far', async () => {
    await page(['stream:x'], 5);
    await page(['stream:y'], 5);
    await page('all', 5);
    await page(['stream:x'], 6);
    await page(['stream:x'], 5, 6);
    expect(reads.asked).to.have.length(5);
    expect(pages.hits).to.equal(0);
  });

  it('are kept within their bytes, those used last', async () => {
    const { frames } = await page(['stream:x'], 0);
    const bytes = frames.reduce((sum, { chunk }) => sum + chunk.length, 0);
    expect(bytes).to.be.within(80, 125);
    await page(['stream:x'], 0);
    await page(['stream:x'], 2);
    expect(pages.bytes).to.equal(2 * bytes);
    await page(['stream:x'], 0);
    await page(['stream:x'], 4);
    expect(pages.bytes).to.equal(2 * bytes);
    expect(reads.asked).to.have.length(3);
    await page(['stream:x'], 0);
    expect(reads.asked, 'used last, kept').to.have.length(3);
    await page(['stream:x'], 2);
    expect(reads.asked, 'used least, dropped').to.have.length(4);
  });

  it('that could not be read, or have nothing in them, are read again', async () => {
    const failing = pages.page('all', 0, 100);
    reads.answer(new Error('gone'));
    expect(await failing.catch((error: Error) => error.message)).to.equal('gone');
    await page('all', 0);
    await page('all', 7, 7);
    await page('all', 7, 7);
    expect(reads.asked).to.have.length(4);
    expect(pages.bytes).to.be.above(0);
  });

  it('are kept in an eighth of their bytes while nobody shares any, and in all of them again once somebody does', async () => {
    const alone = new SharedPages(reads.read, { maxBytes: 2000, maxAhead: 0, idle: () => true });
    const read = async (after: number): Promise<void> => {
      const asked = alone.page('all', after, 10_000);
      reads.answer();
      await asked;
    };
    for (let after = 0; after < 200; after += 2) await read(after);
    expect(alone.bytes).to.be.within(1, 250);
    await read(198);
    expect(alone.hits).to.equal(1);
    for (let after = 200; after < 300; after += 2) await read(after);
    expect(alone.bytes, 'fifty reads after it was shared').to.be.within(1800, 2000);
    for (let after = 300; after < 400; after += 2) await read(after);
    expect(alone.bytes, 'a hundred reads after it').to.be.within(1, 250);
    expect(reads.asked).to.have.length(200);
  });

  it('that are read ahead wait to be asked for, and are not counted as shared', async () => {
    pages.ahead(['stream:x'], 5, 100);
    const underWay = pages.page(['stream:x'], 5, 100);
    reads.answer();
    const { frames } = await underWay;
    expect(frames.map(({ id }) => id)).to.deep.equal([6, 7]);
    pages.ahead(['stream:x'], 7, 100);
    pages.ahead(['stream:x'], 7, 100);
    reads.answer();
    expect((await pages.page(['stream:x'], 7, 110)).frames.map(({ id }) => id)).to.deep.equal([8, 9]);
    expect(reads.asked).to.deep.equal(['stream:x 5 100', 'stream:x 7 100']);
    expect([pages.readAhead, pages.hits]).to.deep.equal([2, 0]);
  });

  it('are read ahead only while nobody waits for one and few wait to be asked for', async () => {
    idle = false;
    pages.ahead('all', 0, 100);
    expect(reads.asked).to.deep.equal([]);
    idle = true;
    for (const after of [0, 2, 4]) pages.ahead('all', after, 100);
    expect(reads.asked).to.deep.equal(['all 0 100', 'all 2 100']);
    reads.answer();
    await page('all', 0);
    pages.ahead('all', 4, 100);
    expect(reads.asked).to.have.length(3);
  });

  it('that were read ahead in vain make room for others, and another place to read ahead', async () => {
    pages.ahead('all', 0, 100);
    pages.ahead('all', 20, 100);
    reads.answer();
    for (let after = 40; after < 60; after += 2) {
      const asked = pages.page('all', after, 100);
      reads.answer();
      await asked;
      await pages.page('all', after, 100);
    }
    expect(pages.bytes).to.be.at.most(250);
    const before = reads.asked.length;
    pages.ahead('all', 0, 100);
    pages.ahead('all', 20, 100);
    expect(reads.asked.slice(before)).to.deep.equal(['all 0 100', 'all 20 100']);
  });

  it('that were read ahead for somebody who has gone are dropped like others, also while nobody shares any', async () => {
    const alone = new SharedPages(reads.read, { maxBytes: 2000, maxAhead: 2, idle: () => true });
    for (const after of [1000, 2000]) alone.ahead('all', after, 10_000);
    reads.answer();
    for (const after of [1000, 2000, 3000]) alone.forgo('all', after);
    for (let after = 0; after < 200; after += 2) {
      const asked = alone.page('all', after, 10_000);
      reads.answer();
      await asked;
    }
    expect(alone.bytes, 'an eighth').to.be.within(1, 250);
    const before = reads.asked.length;
    for (const after of [1000, 2000]) alone.ahead('all', after, 10_000);
    expect(reads.asked.slice(before)).to.deep.equal(['all 1000 10000', 'all 2000 10000']);
  });

  it('that could not be read ahead, or were in a history that has ended, are read when they are asked for', async () => {
    pages.ahead('all', 0, 100);
    reads.answer(new Error('gone'));
    await setImmediate();
    expect((await page('all', 0)).frames).to.have.length(2);
    pages.ahead('all', 50, 100);
    reads.answer();
    expect((await page('all', 50, 51)).frames.map(({ id }) => id)).to.deep.equal([51]);
    expect(reads.asked).to.deep.equal(['all 0 100', 'all 0 100', 'all 50 100', 'all 50 51']);
    for (const after of [60, 70]) pages.ahead('all', after, 100);
    expect(reads.asked, 'both places are free').to.have.length(6);
  });

  it('of somebody with very many topics cost no more than what is in them, whatever cursors they ask with', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const topics = Array.from({ length: 2000 }, (_, index) => `stream:${String(index).padStart(36, '0')}`);
    const roomy = new SharedPages(reads.read, { maxBytes: 8_000_000, maxAhead: 0, idle: () => true });
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let after = 0; after < 300; after += 1) {
      const asked = roomy.page(topics, after, 1000);
      reads.asked.length = 0;
      reads.answer();
      await asked;
    }
    collect();
    expect(roomy.bytes, 'all are kept').to.be.above(300 * 80);
    // The names of the topics, 300 times, are 26 MB.
    expect(process.memoryUsage().heapUsed - before).to.be.below(5_000_000);
  });
});
