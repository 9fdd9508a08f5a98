/*
 * A real Postgres of our own, for whoever has none at hand. It belongs to this process: started with it, stopped with it,
 * and started again over the same data. In the data directory:
 *
 *   settlewire.lock     who holds the directory (pid and start time)
 *   postgres-password   the superuser's password, readable by us alone
 *   postgres/           the cluster; complete whenever it exists
 *
 * Whatever is killed, and whenever, the next start recovers: a dead holder's lock is taken over, a server that outlived
 * its settlewire is shut down, half a cluster is made anew, and Postgres replays its WAL.
 */
import type { ChildProcess } from 'node:child_process';
import { mkdir, realpath } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import pg from 'pg';
import { type Cluster, closed, initialiseCluster, readPassword, spawnPostgres } from './cluster.ts';
import { EmbeddedPostgresError, lockDataDir } from './data-dir-lock.ts';
import { stopOrphan } from './orphan.ts';
import { findPostgresBinaries } from './postgres-binaries.ts';
import { choosePostgresUser } from './postgres-user.ts';

export { EmbeddedPostgresError } from './data-dir-lock.ts';

export interface EmbeddedPostgresOptions {
  readonly dataDir: string;
  /** On 127.0.0.1; 0 or left out: a free one. */
  readonly port?: number;
  /** Server settings besides ours, such as max_connections. */
  readonly settings?: Readonly<Record<string, string>>;
  /** `info` is for whoever started us; `debug` is the server's own log. */
  readonly log: (line: string, level: 'info' | 'debug') => void;
}

export interface EmbeddedPostgres {
  /** Superuser's URL of the database `settlewire`; carries the password. */
  readonly url: string;
  /** Process id of the server. */
  readonly pid: number;
  /** Shuts down cleanly, whoever is still connected; can be called twice. */
  stop(): Promise<void>;
}

export const DATABASE = 'settlewire';
const START_MS = 120_000;
const STOP_MS = 30_000;
const FREE_PORT_ATTEMPTS = 5;

/**
 * Starts the embedded Postgres in `dataDir` and resolves when it answers queries.
 * @throws EmbeddedPostgresError of one line: directory or port in use, wrong rights, a server that does not start.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const dataDir = await makeDataDir(options.dataDir);
  const lock = await lockDataDir(dataDir);
  try {
    const cluster = await prepareCluster(dataDir, options);
    const running = await launch(cluster, options);
    let stopped: Promise<void> | undefined;
    const stop = async () => {
      await running.stop();
      await lock.release();
    };
    return {
      url: running.url,
      pid: running.pid,
      stop: () => {
        stopped ??= stop();
        return stopped;
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

async function makeDataDir(path: string): Promise<string> {
  try {
    await mkdir(path, { recursive: true });
    return await realpath(path);
  } catch (error) {
    throw new EmbeddedPostgresError(`DATA_DIR ${path} cannot be made: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

async function prepareCluster(dataDir: string, { log }: EmbeddedPostgresOptions): Promise<Cluster> {
  const directory = join(dataDir, 'postgres');
  const orphan = await stopOrphan(directory);
  if (orphan !== null)
    log(`stopped Postgres ${orphan}, left over from a settlewire that was killed; its data is kept`, 'info');
  const user = await choosePostgresUser(directory);
  const binaries = await findPostgresBinaries(user);
  const password = await readPassword(dataDir, directory);
  const cluster = { directory, user, binaries, password };
  await initialiseCluster(cluster);
  return cluster;
}

interface RunningServer {
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

async function launch(cluster: Cluster, options: EmbeddedPostgresOptions): Promise<RunningServer> {
  const deadline = performance.now() + START_MS;
  for (let attempt = 1; ; attempt += 1) {
    const port = await choosePort(options.port ?? 0);
    const server = spawnPostgres(
      cluster,
      {
        max_connections: '200',
        ...options.settings,
        listen_addresses: '127.0.0.1',
        port: String(port),
        unix_socket_directories: '',
      },
      (line) => options.log(line, 'debug'),
    );
    const goneWithUs = () => server.child.kill('SIGINT');
    process.once('exit', goneWithUs);
    const url = `postgres://postgres:${cluster.password}@127.0.0.1:${port}/`;
    try {
      await untilReady(server.child, `${url}postgres`, deadline);
      await ensureDatabase(`${url}postgres`);
      return {
        url: url + DATABASE,
        pid: server.child.pid ?? 0,
        stop: async () => {
          await shutDown(server.child);
          process.off('exit', goneWithUs);
        },
      };
    } catch (error) {
      await shutDown(server.child);
      process.off('exit', goneWithUs);
      if (!isPassing(server.lastLines(), options.port) || attempt >= FREE_PORT_ATTEMPTS) {
        const reason = server.lastLines() || (error as Error).message;
        throw new EmbeddedPostgresError(`the embedded Postgres did not start: ${reason}`, { cause: error });
      }
      await pause(attempt * 200);
    }
  }
}

// Somebody took the free port between our look and the server's start; or the children of a server that was killed have
// not all noticed yet.
function isPassing(lastLines: string, wantedPort: number | undefined): boolean {
  if (/shared memory block .*still in use/.test(lastLines)) return true;
  return !wantedPort && /could not (bind|create any TCP)/.test(lastLines);
}

function choosePort(wanted: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'is already in use' : `cannot be used: ${error.message}`;
      reject(new EmbeddedPostgresError(`port ${wanted} for the embedded Postgres ${why}`, { cause: error }));
    });
    probe.listen(wanted, '127.0.0.1', () => {
      const address = probe.address();
      const port = typeof address === 'object' && address ? address.port : wanted;
      probe.close(() => resolve(port));
    });
  });
}

// What the server logs is not proof; a query that it answers is. The password is this cluster's own, so no stranger on
// the same port can answer in its place.
async function untilReady(child: ChildProcess, url: string, deadline: number): Promise<void> {
  let gone = false;
  void closed(child).then(() => {
    gone = true;
  });
  for (;;) {
    try {
      await query(url, 'select 1');
      return;
    } catch (error) {
      if (gone) throw new Error('it ended at once', { cause: error });
      if (performance.now() > deadline)
        throw new Error(`no answer within ${START_MS / 1000} s`, { cause: error });
      await pause(20);
    }
  }
}

async function ensureDatabase(url: string): Promise<void> {
  const rows = await query(url, `select from pg_database where datname = '${DATABASE}'`);
  if (rows.length === 0) await query(url, `create database ${DATABASE}`);
}

async function query(url: string, statement: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 5000 });
  client.on('error', () => {});
  try {
    await client.connect();
    return (await client.query(statement)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}

async function shutDown(child: ChildProcess): Promise<void> {
  child.kill('SIGINT');
  const impatient = setTimeout(() => child.kill('SIGQUIT'), STOP_MS);
  await closed(child);
  clearTimeout(impatient);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
