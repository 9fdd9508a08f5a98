/*
 * One settlewire per data directory. The lock is a file that names its holder by pid and start time, so that whoever finds
 * it can tell a living holder from one that was killed. It appears by link(), hence never half-written.
 */
import { randomBytes } from 'node:crypto';
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { processStartTime } from './process-identity.ts';

export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError';
}

export interface DataDirLock {
  release(): Promise<void>;
}

const ATTEMPTS = 20;

/** @throws EmbeddedPostgresError naming the pid if another living process holds the directory. */
export async function lockDataDir(dataDir: string): Promise<DataDirLock> {
  const path = join(dataDir, 'settlewire.lock');
  const own = `${process.pid} ${processStartTime(process.pid)}\n`;
  const draft = `${path}.${process.pid}-${randomBytes(4).toString('hex')}`;
  await writeFile(draft, own, { flag: 'wx', mode: 0o600 });
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      if (await linked(draft, path)) return { release: () => releaseLock(path, own) };
      const found = await readFile(path, 'utf8').catch(() => null);
      if (found === null) continue;
      const pid = Number.parseInt(found, 10);
      if (holderLives(found))
        throw new EmbeddedPostgresError(
          `DATA_DIR ${dataDir} is in use by another settlewire, process ${pid}`,
        );
      await removeStale(path, found);
    }
    throw new EmbeddedPostgresError(
      `DATA_DIR ${dataDir} could not be locked: others take ${path} all the time`,
    );
  } finally {
    await rm(draft, { force: true });
  }
}

function holderLives(lock: string): boolean {
  const [pidText = '', ...started] = lock.trim().split(' ');
  const pid = Number(pidText);
  if (!Number.isInteger(pid) || pid <= 0) return false;
  const start = processStartTime(pid);
  return start !== null && start === started.join(' ');
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

// Two starts may find the same dead lock. Renaming decides between them; the slower one may thereby catch the faster one's
// new lock, sees that from its content, and puts it back.
async function removeStale(path: string, stale: string): Promise<void> {
  const aside = `${path}.stale-${process.pid}-${randomBytes(4).toString('hex')}`;
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  const caught = await readFile(aside, 'utf8');
  if (caught !== stale) await linked(aside, path);
  await rm(aside, { force: true });
}

async function releaseLock(path: string, own: string): Promise<void> {
  const found = await readFile(path, 'utf8').catch(() => null);
  if (found === own) await rm(path, { force: true });
}
