import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DATABASE } from './embedded-postgres.ts';

/**
 * The URL of the embedded Postgres that a settlewire runs over this data directory; undefined if none does, or if its files are
 * not ours to read.
 */
export async function runningEmbeddedUrl(dataDir: string): Promise<string | undefined> {
  try {
    // https://www.postgresql.org/docs/current/storage-file-layout.html: pid, directory, start, port, …
    const [pid = '', , , port = ''] = (
      await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8')
    ).split('\n');
    process.kill(Number(pid), 0);
    const password = (await readFile(join(dataDir, 'postgres-password'), 'utf8')).trim();
    return `postgres://postgres:${password}@127.0.0.1:${Number(port)}/${DATABASE}`;
  } catch {
    return undefined;
  }
}
