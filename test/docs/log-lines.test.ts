import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'chai';

/** What the source says to the log, from `info` up; the demo's market aside. */
async function messages(): Promise<string[]> {
  const found: string[] = [];
  for (const path of await readdir('src', { recursive: true })) {
    if (!path.endsWith('.ts') || path.startsWith('demo')) continue;
    const source = await readFile(join('src', path), 'utf8');
    for (const [, message = ''] of source.matchAll(/\blog\.(?:info|warn|error)\([^;]*?'([^'\n]+)',?\s*\)/g))
      found.push(message);
  }
  return found;
}

describe('docs/operations.md: the log', () => {
  it('has a line for each message, so that whoever reads one at night finds what to do', async () => {
    const said = await messages();
    expect(said.length).to.be.above(15);
    const page = await readFile('docs/operations.md', 'utf8');
    const section = page.slice(page.indexOf('\n## Logs'), page.indexOf('\n## Health'));
    const explained = [...section.matchAll(/`([^`\n]+)`/g)].map(([, text = '']) => text);
    for (const message of said)
      expect(
        explained.some((text) =>
          text.endsWith('…') ? message.startsWith(text.slice(0, -1).trim()) : text === message,
        ),
        message,
      ).to.equal(true);
  });
});
