import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { expect } from 'chai';
import { bundleClient, COMMITTED } from '../../scripts/client-bundle.ts';

const run = promisify(execFile);
const CLIENT = fileURLToPath(new URL('../../src/client/client.ts', import.meta.url));
const GUIDE = new URL('../../docs/client.md', import.meta.url);
const TSC = fileURLToPath(new URL('../../node_modules/typescript/bin/tsc', import.meta.url));

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

describe("the client's types", () => {
  const CONSUMER = `
    import { connect, snapshotThenSubscribe, type EventData, type LiveEvent } from 'settlewire/client';
    const connection = connect<{ 'invoice:paid': { amount: string } }>({ url: location.origin, credentials: 'cookie' });
    connection.on('stream:updated', ({ data }) => {
      const status: 'draft' | 'active' | 'paused' | 'completed' | 'ended' | 'withdrawn' | 'cancelled' = data.status;
      return status;
    });
    connection.on('invoice:paid', ({ data }) => data.amount.length);
    connection.on('event', (event) => (event.type === 'notification:read' ? event.data.readAt : event.id));
    // @ts-expect-error: no such field
    connection.on('settle:finished', ({ data }) => data.memo);
    // @ts-expect-error: no such type
    connection.on('stream:nonsense', () => {});
    // @ts-expect-error: not without credentials
    connect({ url: '' });
    // @ts-expect-error: a ticket opens no snapshot
    snapshotThenSubscribe({ url: '', credentials: { ticket: () => null } }, () => {});
    export const pick = (event: LiveEvent): string | null | number =>
      event.type === 'settle:finished' ? event.data.txHash : event.id;
    export type Read = EventData<'notification:read'>;
    snapshotThenSubscribe({ url: '', credentials: { bearer: () => null } }, ({ topics }) => Object.keys(topics));
  `;

  async function complaints(source: string, ambient = ''): Promise<string> {
    const cwd = await mkdtemp(join(tmpdir(), 'settlewire-consumer-'));
    try {
      await writeFile(join(cwd, 'consumer.ts'), source.replaceAll("'settlewire/client'", `'${CLIENT}'`));
      await writeFile(join(cwd, 'ambient.d.ts'), ambient);
      const options = [
        '--strict',
        '--target',
        'es2022',
        '--module',
        'esnext',
        '--moduleResolution',
        'bundler',
      ];
      options.push('--noEmit', '--allowImportingTsExtensions', '--lib', 'es2023,dom', '--types', '');
      const { stdout } = await run(process.execPath, [TSC, ...options, 'ambient.d.ts', 'consumer.ts'], {
        cwd,
      }).catch((error: { stdout: string }) => error);
      return stdout;
    } finally {
      await rm(cwd, { recursive: true });
    }
  }

  it("are what the catalogue says, in a browser's project that knows neither Node nor this service's packages", async () => {
    expect(await complaints(CONSUMER)).to.equal('');
  });

  it('fit the hook in docs/client.md', async () => {
    const hook = /```tsx\n([\s\S]*?)```/.exec(await readFile(GUIDE, 'utf8'))?.[1] ?? '';
    expect(hook).to.include('useStream');
    const react = `declare module 'react' {
      export function useState<T>(): [T | undefined, (value: T | undefined) => void];
      export function useState<T>(value: T): [T, (value: T) => void];
      export function useEffect(effect: () => () => void, changes: readonly unknown[]): void;
    }`;
    expect(await complaints(hook, react)).to.equal('');
  });
});
