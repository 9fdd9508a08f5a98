import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { configurationPage } from '../../scripts/docs-configuration.ts';

describe('docs/configuration.md', () => {
  it('is as the schema has it: npm run docs:configuration -- --write', async () => {
    expect(await readFile('docs/configuration.md', 'utf8')).to.equal(configurationPage());
  });

  it('has defaults and bounds of the schema, and no secret', () => {
    const page = configurationPage();
    expect(page).to.include('| `PORT` | `8080` | whole number from 0 to 65535 |');
    expect(page).to.include('| `HEARTBEAT_SECONDS` | `15` | number from 0.1 to 300 (seconds) |');
    expect(page).to.match(/\| `MIGRATE` \| `all` \| one of all, outbox, off \|/);
    expect(page).to.match(/\| `JWT_SECRET` \| {2}\| {2}\|/);
  });
});
