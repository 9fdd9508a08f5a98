import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { bookEnvironment } from '../support/book-environment.ts';
import { ConsoleBook, readSteps, settled } from '../support/console-book.ts';
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts';

/** Pages whose blocks are pasted into a shell, one after the other, and must show what they say. */
const PAGES = { 'docs/qa.md': 30, 'docs/cli.md': 4 };

for (const [path, fewest] of Object.entries(PAGES)) {
  describe(`${path}, as written`, function () {
    this.timeout(240_000);
    let database: TestDatabase;
    let book: ConsoleBook;

    before(async () => {
      database = await createEmptyDatabase();
      book = await ConsoleBook.open(await bookEnvironment(database.url));
    });

    after(async () => {
      await book.close();
      await database.drop();
    });

    it('has something to run', async () => {
      const steps = readSteps(await readFile(path, 'utf8'));
      expect(steps.filter(({ shown }) => shown !== undefined)).to.have.length.above(fewest - 1);
    });

    it('every block does what the page says', async () => {
      for (const step of readSteps(await readFile(path, 'utf8'))) {
        const came = await book.run(step);
        if (step.shown !== undefined)
          expect(settled(came), `${path}:${step.line}`).to.equal(settled(step.shown));
      }
    });
  });
}
