/*
 * Runs the pages of docs that are run by CI: `npm run docs:run` says where they and the world differ, `npm run docs:run -- --write`
 * puts what came into the page, where it differs by more than what differs each time.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { bookEnvironment } from '../test/support/book-environment.ts';
import { ConsoleBook, presentable, readSteps, settled } from '../test/support/console-book.ts';
import { createEmptyDatabase, startTestServer, stopTestServer } from '../test/support/database.ts';

const write = process.argv.includes('--write');
const pages = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));

await startTestServer();
let differences = 0;
for (const path of pages.length > 0 ? pages : ['docs/qa.md', 'docs/cli.md']) {
  const database = await createEmptyDatabase();
  const book = await ConsoleBook.open(await bookEnvironment(database.url));
  let page = await readFile(path, 'utf8');
  let moved = 0;
  try {
    for (const step of readSteps(page)) {
      const came = await book.run(step, write ? 4000 : undefined);
      if (step.at === undefined || settled(step.shown ?? '') === settled(came)) continue;
      differences += 1;
      console.log(`${path}:${step.line}\n${presentable(came)}`);
      const [from, to] = step.at;
      const text = presentable(came);
      page = page.slice(0, from + moved) + text + page.slice(to + moved);
      moved += text.length - (to - from);
    }
  } finally {
    await book.close();
    await database.drop();
  }
  if (write) await writeFile(path, page);
}
await stopTestServer();
console.log(`${differences} differences${write ? ', written' : ''}`);
if (!write && differences > 0) process.exitCode = 1;
