import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { bundleClient, COMMITTED } from '../../scripts/client-bundle.ts';

describe("the client's bundle", () => {
  it('is under 4 KB, minified and gzipped, and needs nothing that a browser has not', async () => {
    const code = await bundleClient();
    expect(gzipSync(code, { level: 9 }).length).to.be.within(1000, 4000);
    expect(code.replace(/^\/\/.*/, '')).not.to.match(/\b(import|require|process|Buffer)\b/);
  });

  it('as the dashboard has it is the one that the sources make', async () => {
    expect(await readFile(COMMITTED, 'utf8')).to.equal(await bundleClient());
  });
});
