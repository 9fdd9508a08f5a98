import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';

const ROOT = fileURLToPath(new URL('../', import.meta.url));
const LOADER = new URL('./support/typescript.mjs', import.meta.url).href;

interface Outcome {
  readonly code: number;
  readonly stdout: string;
}

describe('npm run audit', function () {
  this.timeout(60_000);
  let registry: Server;
  let cache: string;
  /** What the advisory service answers; null: what it does not know. */
  let advisories: object | null;

  before(async () => {
    cache = mkdtempSync(join(tmpdir(), 'settlewire-audit-'));
    registry = createServer((request, response) => {
      request.resume();
      const known = request.url === '/-/npm/v1/security/advisories/bulk' && advisories !== null;
      response.writeHead(known ? 200 : 405, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(known ? advisories : {}));
    }).listen(0, '127.0.0.1');
    await once(registry, 'listening');
  });
  after(async () => {
    registry.closeAllConnections();
    registry.close();
    await once(registry, 'close');
    rmSync(cache, { recursive: true });
  });

  function audit(port = (registry.address() as AddressInfo).port): Promise<Outcome> {
    const env = {
      ...process.env,
      npm_config_registry: `http://127.0.0.1:${port}/`,
      npm_config_cache: cache,
      NODE_V8_COVERAGE: '',
    };
    return new Promise((resolve) => {
      execFile(
        process.execPath,
        ['--import', LOADER, 'scripts/audit.ts'],
        { cwd: ROOT, env },
        (error, stdout) => resolve({ code: Number(error?.code ?? 0), stdout }),
      );
    });
  }

  it('ends with 0 when nothing is known', async () => {
    advisories = {};
    const { code, stdout } = await audit();
    expect(stdout).to.match(/^\d{3} packages checked, 0 with known advisories\n$/);
    expect(code).to.equal(0);
  });

  it('ends with 1 and says which when something is', async () => {
    const url = 'https://example.com/advisory';
    advisories = {
      uplot: [{ id: 1, url, title: 'Draws too well', severity: 'low', vulnerable_versions: '*', cwe: [] }],
    };
    const { code, stdout } = await audit();
    expect(stdout).to.match(
      /, 1 with known advisories\nlow: uplot.*: Draws too well https:\/\/example\.com\/advisory\n$/,
    );
    expect(code).to.equal(1);
  });

  it('ends with 2 and says so when the service does not answer, or not to the question', async () => {
    advisories = null;
    const refused = await audit();
    expect(refused.stdout).to.match(/^NOT CHECKED: .*405/);
    expect(refused.code).to.equal(2);
    const away = await audit(1);
    expect(away.stdout).to.match(/^NOT CHECKED: /);
    expect(away.code).to.equal(2);
  });
});
