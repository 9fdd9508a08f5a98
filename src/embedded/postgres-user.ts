import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { promisify } from 'node:util';
import { EmbeddedPostgresError } from './data-dir-lock.ts';

export interface PostgresUser {
  readonly name: string;
  /** Spawn options; empty when Postgres runs as the user that we are. */
  readonly ids: { readonly uid?: number; readonly gid?: number };
}

const run = promisify(execFile);

/**
 * Whom Postgres runs as: ourselves, or, since it refuses to run as root, the owner of the cluster that is there already,
 * or the system user `postgres`, which is made if need be.
 */
export async function choosePostgresUser(clusterDir: string): Promise<PostgresUser> {
  if (process.getuid?.() !== 0) return { name: 'this user', ids: {} };
  const owner = await stat(clusterDir).catch(() => null);
  if (owner && owner.uid !== 0) return { name: `user ${owner.uid}`, ids: { uid: owner.uid, gid: owner.gid } };
  try {
    const ids = await idsOfPostgres().catch(async () => {
      await run('useradd', ['--system', '--user-group', '--no-create-home', 'postgres']);
      return idsOfPostgres();
    });
    return { name: 'user postgres', ids };
  } catch (error) {
    throw new EmbeddedPostgresError(
      'Postgres does not run as root, and a user named postgres could not be made: run as another user, or set DATABASE_URL',
      { cause: error },
    );
  }
}

async function idsOfPostgres(): Promise<{ uid: number; gid: number }> {
  const [uid, gid] = await Promise.all([run('id', ['-u', 'postgres']), run('id', ['-g', 'postgres'])]);
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
}
