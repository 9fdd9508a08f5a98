import { execFile } from 'node:child_process';
import { appendFile, chown, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Pool } from 'pg';
import { OwnPostgres } from './own-postgres.ts';

const run = promisify(execFile);

/** A cluster as test helpers keep it: its data in `directory`/data. */
export interface Cluster {
  readonly directory: string;
  readonly pool: Pool;
}

/**
 * A base backup of a running server, as pg_basebackup takes one: https://www.postgresql.org/docs/current/continuous-archiving.html,
 * "Making a Base Backup Using the Low Level API". It holds the WAL that it needs.
 * @param to a directory that does not exist yet
 */
export async function takeBaseBackup({ directory, pool }: Cluster, to: string): Promise<void> {
  const data = join(directory, 'data');
  const client = await pool.connect();
  try {
    await client.query("select pg_backup_start('test', true)");
    await run('cp', ['-a', data, to]);
    const { rows } = await client.query<{ labelfile: string }>('select labelfile from pg_backup_stop(false)');
    await run('cp', ['-a', join(data, 'pg_wal'), to]);
    await Promise.all(
      ['postmaster.pid', 'postmaster.opts'].map((name) => rm(join(to, name), { force: true })),
    );
    await own(to, 'backup_label', rows[0]?.labelfile ?? '');
  } finally {
    client.release();
  }
}

/**
 * Puts a backup in the place of a stopped server's data.
 * @param signal what the server is to be when it starts: `recovery`: on a new timeline; `standby`: following `primaryUrl`; left
 *   out: it takes the files for its own after a crash, and stays on its timeline
 */
export async function putBack(
  from: string,
  { directory }: Pick<Cluster, 'directory'>,
  signal?: 'recovery' | 'standby',
  primaryUrl?: string,
): Promise<void> {
  const data = join(directory, 'data');
  await rm(data, { recursive: true, force: true });
  await run('cp', ['-a', from, data]);
  if (signal === undefined) return;
  await own(data, `${signal}.signal`, '');
  const { hostname, port } = new URL(primaryUrl ?? 'postgres://none');
  const setting =
    signal === 'recovery'
      ? "restore_command = 'false'"
      : `primary_conninfo = 'host=${hostname} port=${port} user=postgres'`;
  await appendFile(join(data, 'postgresql.auto.conf'), `${setting}\n`);
}

/**
 * A standby that follows a primary.
 * @param directory in which its base backup may stay until the test ends
 */
export async function startStandby(primary: OwnPostgres, directory: string): Promise<OwnPostgres> {
  const standby = await OwnPostgres.start({ settings: { fsync: 'off' } });
  await standby.stopFast();
  const backup = join(directory, 'standby');
  await takeBaseBackup(primary, backup);
  await putBack(backup, standby, 'standby', primary.url);
  await standby.start();
  return standby;
}

async function own(data: string, name: string, text: string): Promise<void> {
  const { uid, gid } = await stat(data);
  await writeFile(join(data, name), text, { mode: 0o600 });
  await chown(join(data, name), uid, gid);
}
