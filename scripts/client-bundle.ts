/*
 * The client as one small file, for the dashboard's page, which has no build of its own: `npm run client:bundle -- --write`
 * writes it; without it, the committed one is compared. test/client/package.test.ts does the same, and holds it to its size.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

export const COMMITTED = fileURLToPath(new URL('../src/dashboard/page/client.js', import.meta.url));
const ENTRY = fileURLToPath(new URL('../src/client/client.ts', import.meta.url));

/** `settlewire/client` for browsers of 2024 and later, minified. */
export async function bundleClient(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [ENTRY],
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    banner: { js: '// settlewire/client, made by npm run client:bundle -- --write' },
    write: false,
  });
  return outputFiles[0]?.text ?? '';
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const made = await bundleClient();
  if (process.argv.includes('--write')) await writeFile(COMMITTED, made);
  else if (made !== (await readFile(COMMITTED, 'utf8'))) {
    console.error(
      'src/dashboard/page/client.js is not what src/client makes: npm run client:bundle -- --write',
    );
    process.exitCode = 1;
  }
}
