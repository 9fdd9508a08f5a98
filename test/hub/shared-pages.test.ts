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

  beforeEach(() => {
    reads = new Reads();
    pages = new SharedPages(reads.read, { maxBytes: 250 });
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
    const bytes = frames.reduce((sum, { chunk }) => sum + chunk.framed.length, 0);
    expect(bytes).to.be.within(90, 125);
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

  it('of somebody with very many topics cost no more than what is in them, whatever cursors they ask with', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const topics = Array.from({ length: 2000 }, (_, index) => `stream:${String(index).padStart(36, '0')}`);
    const roomy = new SharedPages(reads.read, { maxBytes: 1_000_000 });
    collect();
    const before = process.memoryUsage().heapUsed;
    for (let after = 0; after < 300; after += 1) {
      const asked = roomy.page(topics, after, 1000);
      reads.asked.length = 0;
      reads.answer();
      await asked;
    }
    collect();
    expect(roomy.bytes, 'all are kept').to.be.above(300 * 90);
    // The names of the topics, 300 times, are 26 MB.
    expect(process.memoryUsage().heapUsed - before).to.be.below(5_000_000);
  });
});
