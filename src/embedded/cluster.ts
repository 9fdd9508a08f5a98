import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chown,
  type FileHandle,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { EmbeddedPostgresError } from './data-dir-lock.ts';
import type { PostgresBinaries } from './postgres-binaries.ts';
import type { PostgresUser } from './postgres-user.ts';

export interface Cluster {
  /** Holds a complete cluster whenever it exists: it is made aside and renamed. */
  readonly directory: string;
  readonly user: PostgresUser;
  readonly binaries: PostgresBinaries;
  readonly password: string;
}

/** The superuser's password, kept where only we can read it; made on the first start. */
export async function readPassword(dataDir: string, clusterDir: string): Promise<string> {
  const path = join(dataDir, 'postgres-password');
  const kept = (await readFile(path, 'utf8').catch(() => '')).trim();
  if (kept) return kept;
  if (await exists(clusterDir))
    throw new EmbeddedPostgresError(
      `${path} is missing or empty, and nothing else opens ${clusterDir}: restore it`,
    );
  const password = randomBytes(24).toString('base64url');
  await writeFile(path, `${password}\n`, { mode: 0o600 });
  return password;
}

/** Makes the cluster unless it is there. An attempt that was cut short leaves only a directory that the next one removes. */
export async function initialiseCluster({ directory, user, binaries, password }: Cluster): Promise<void> {
  const parent = dirname(directory);
  const draftPrefix = `${basename(directory)}.new-`;
  for (const entry of await readdir(parent))
    if (entry.startsWith(draftPrefix))
      await rm(join(parent, entry), { recursive: true, force: true, maxRetries: 5 });
  if (await exists(directory)) return;

  const draft = join(parent, draftPrefix + randomBytes(4).toString('hex'));
  const passwordFile = await openUnlinked(`${draft}.password`, `${password}\n`, user);
  try {
    await mkdir(draft, { mode: 0o700 });
    if (user.ids.uid !== undefined && user.ids.gid !== undefined)
      await chown(draft, user.ids.uid, user.ids.gid);
    const args = ['--username=postgres', '--auth=scram-sha-256', '--pwfile=/dev/fd/3'];
    // The builtin locale needs none of the operating system's, and sorts the same everywhere.
    args.push('--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8');
    const initdb = spawnIn(draft, user, binaries.initdb, args, { passing: passwordFile.fd });
    const said = lastLines(initdb, () => {});
    const [code, signal] = await closed(initdb);
    if (code !== 0) throw new EmbeddedPostgresError(`initdb failed (${signal ?? code}): ${said()}`);
    await rename(draft, directory);
  } finally {
    await passwordFile.close();
    await rm(draft, { recursive: true, force: true, maxRetries: 5 });
  }
}

/**
 * Starts the server in a session of its own, so that a terminal's Ctrl-C reaches only us and the service can drain before
 * its database goes. `log` gets the server's lines.
 */
export function spawnPostgres(
  { directory, user, binaries }: Cluster,
  settings: Readonly<Record<string, string>>,
  log: (line: string) => void,
): { child: ChildProcess; lastLines: () => string } {
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const child = spawnIn(directory, user, binaries.postgres, flags, { detached: true });
  return { child, lastLines: lastLines(child, log) };
}

/** Resolves when the process has ended and its output has been read; never rejects. */
export async function closed(child: ChildProcess): Promise<[code: number | null, signal: string | null]> {
  if (child.exitCode === null && child.signalCode === null) {
    try {
      await once(child, 'close');
    } catch {
      return [-1, null];
    }
  }
  return [child.exitCode, child.signalCode];
}

export async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}

// Without a name in any directory there is nothing to be left behind, whenever we are killed.
async function openUnlinked(path: string, content: string, { ids }: PostgresUser): Promise<FileHandle> {
  await writeFile(path, content, { flag: 'wx', mode: 0o600 });
  const file = await open(path, 'r');
  await rm(path);
  if (ids.uid !== undefined && ids.gid !== undefined) await file.chown(ids.uid, ids.gid);
  return file;
}

// Another user may be unable to reach a directory below, say, /root. We enter it before we give up our rights, and
// /proc/self/cwd is then a path to it that leads through none of its parents.
function spawnIn(
  directory: string,
  { ids }: PostgresUser,
  program: string,
  args: readonly string[],
  { detached = false, passing }: { detached?: boolean; passing?: number } = {},
): ChildProcess {
  const throughCwd = ids.uid !== undefined && process.platform === 'linux';
  return spawn(program, ['-D', throughCwd ? '/proc/self/cwd' : directory, ...args], {
    ...ids,
    detached,
    cwd: directory,
    // No PG* variable of ours may steer the server.
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' },
    stdio: ['ignore', 'pipe', 'pipe', passing ?? 'ignore'],
  });
}

function lastLines(child: ChildProcess, log: (line: string) => void): () => string {
  const lines: string[] = [];
  const read = (chunk: Buffer) => {
    for (const line of chunk.toString().split('\n')) {
      if (line.trim() === '') continue;
      log(line);
      lines.push(line.trim());
      if (lines.length > 5) lines.shift();
    }
  };
  child.on('error', (error) => lines.push(String(error)));
  child.stdout?.on('data', read);
  child.stderr?.on('data', read);
  return () => lines.join(' | ');
}
