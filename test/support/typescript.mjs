// Runs TypeScript in tests with nothing but types taken away: a transform that adds helpers of its own (as tsx does, to keep names)
// would show in the coverage as branches that nobody wrote. What was made of a text is kept: tests start hundreds of processes.
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { register } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isMainThread, threadId } from 'node:worker_threads';

if (isMainThread) register(import.meta.url);

const KEPT = new URL('../../node_modules/.cache/typescript/', import.meta.url);

/** A module hook: https://nodejs.org/api/module.html#loadurl-context-nextload */
export async function load(url, context, nextLoad) {
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return nextLoad(url, context);
  const path = fileURLToPath(url);
  const text = await readFile(path, 'utf8');
  const kept = new URL(
    `${createHash('sha256').update(path).update('\0').update(text).digest('hex')}.js`,
    KEPT,
  );
  const source = await readFile(kept, 'utf8').catch(() => make(kept, path, text));
  return { format: 'module', source, shortCircuit: true };
}

async function make(kept, path, text) {
  const { transform } = await import('esbuild');
  const { code } = await transform(text, {
    loader: 'ts',
    format: 'esm',
    target: 'node20',
    sourcemap: 'inline',
    sourcefile: path,
    sourcesContent: false,
  });
  // Whole or not at all: others make the same at the same time.
  const mine = new URL(`${kept.href}.${process.pid}.${threadId}`);
  await mkdir(KEPT, { recursive: true });
  await writeFile(mine, code);
  await rename(mine, kept);
  return code;
}
