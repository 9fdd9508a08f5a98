import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chown, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { createPool } from '../../src/database.ts';
import { findPostgresBinaries, type PostgresBinaries } from '../../src/embedded/postgres-binaries.ts';
import { choosePostgresUser, type PostgresUser } from '../../src/embedded/postgres-user.ts';
import { migrate } from '../../src/migrate.ts';
import { grantService } from './service-role.ts';
import { waitFor } from './wait-for.ts';

export interface OwnPostgresOptions {
  /** An existing directory in which the data goes; a new one under /tmp if left out. */
  readonly parent?: string;
  /** An existing directory in which the WAL goes; with the data if left out. */
  readonly walParent?: string;
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * A Postgres for one test file that may be killed, stopped and started again on the same port and data. PostgreSQL 18 of the
 * embedded package, or the programs in FAULT_POSTGRES_BIN.
 */
export class OwnPostgres {
  readonly url: string;
  /** Of a superuser; survives restarts, but not the queries that are running. */
  readonly pool: pg.Pool;
  readonly directory: string;
  readonly #binaries: PostgresBinaries;
  readonly #user: PostgresUser;
  readonly #settings: Readonly<Record<string, string>>;
  #server: ChildProcess | undefined;
  #log = '';

  private constructor(
    directory: string,
    port: number,
    binaries: PostgresBinaries,
    user: PostgresUser,
    settings: Readonly<Record<string, string>>,
  ) {
    this.directory = directory;
    this.#binaries = binaries;
    this.#user = user;
    this.#settings = {
      max_connections: '100',
      listen_addresses: '127.0.0.1',
      unix_socket_directories: '',
      ...settings,
      port: String(port),
    };
    this.url = `postgres://postgres@127.0.0.1:${port}/postgres`;
    this.pool = createPool(this.url, { max: 10, applicationName: 'test' });
  }

  /** A cluster of one's own, running, with every migration applied. */
  static async start({ parent, walParent, settings = {} }: OwnPostgresOptions = {}): Promise<OwnPostgres> {
    const directory = await mkdtemp(join(parent ?? tmpdir(), 'settlewire-fault-'));
    const user = await choosePostgresUser(join(directory, 'data'));
    await own(directory, user);
    const bin = process.env.FAULT_POSTGRES_BIN;
    const binaries =
      bin === undefined
        ? await findPostgresBinaries(user)
        : { initdb: join(bin, 'initdb'), postgres: join(bin, 'postgres') };
    const server = new OwnPostgres(directory, await freePort(), binaries, user, settings);
    try {
      await server.#initialise(walParent);
      await server.start();
      await migrate({ connectionString: server.url, set: 'all' });
      await grantService(server.url);
    } catch (error) {
      await server.remove();
      throw error;
    }
    return server;
  }

  get #data(): string {
    return join(this.directory, 'data');
  }

  async #initialise(walParent?: string): Promise<void> {
    await mkdir(this.#data, { mode: 0o700 });
    await own(this.#data, this.#user);
    const wal = walParent === undefined ? undefined : await mkdtemp(join(walParent, 'settlewire-wal-'));
    if (wal !== undefined) await own(wal, this.#user);
    const initdb = spawn(
      this.#binaries.initdb,
      ['-D', this.#data, '--username=postgres', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync'],
      { ...this.#user.ids, cwd: this.directory, stdio: 'ignore' },
    );
    const [code] = await once(initdb, 'close');
    if (code !== 0) throw new Error(`initdb ended with ${code}`);
  }

  get running(): boolean {
    return this.#server !== undefined && this.#server.exitCode === null && this.#server.signalCode === null;
  }

  /** Starts it and resolves when it answers, after whatever recovery it needs. */
  async start(): Promise<void> {
    await waitFor(
      async () => {
        if (!this.running) this.#spawn();
        const client = new pg.Client({
          connectionString: this.url,
          application_name: 'test',
          connectionTimeoutMillis: 2000,
        });
        client.on('error', () => {});
        await client.connect();
        await client.end();
        return true;
      },
      {
        what: () => `Postgres to answer; it said: ${this.#log.slice(-3000)}`,
        timeoutMs: 60_000,
        // Each look is a backend, which recovery would have to share its processor with.
        intervalMs: 25,
      },
    );
  }

  #spawn(): void {
    const flags = Object.entries(this.#settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const server = spawn(this.#binaries.postgres, ['-D', this.#data, ...flags], {
      ...this.#user.ids,
      cwd: this.directory,
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    server.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#log = (this.#log + text).slice(-20_000);
    });
    this.#server = server;
  }

  /** What the server has said lately. */
  get log(): string {
    return this.#log;
  }

  /** SIGKILL for the postmaster and every backend at once: only what reached the operating system is left. */
  async kill(): Promise<void> {
    const server = this.#server;
    if (server?.pid === undefined || !this.running) return;
    const ended = once(server, 'exit');
    const children = await childrenOf(server.pid);
    for (const pid of [server.pid, ...children]) killQuietly(pid);
    await ended;
    // A backend that was forked between the look and the kill still holds the shared memory until it notices.
    await waitFor(async () => (await Promise.all(children.map(alive))).every((up) => !up), {
      what: 'the end of the backends',
    });
  }

  /** SIGINT, as `pg_ctl stop -m fast`: ends every session, writes a checkpoint. */
  async stopFast(): Promise<void> {
    const server = this.#server;
    if (server === undefined || !this.running) return;
    const ended = once(server, 'exit');
    server.kill('SIGINT');
    await ended;
  }

  async remove(): Promise<void> {
    await this.pool.end();
    const impatient = setTimeout(() => void this.kill(), 10_000);
    await this.stopFast();
    clearTimeout(impatient);
    await rm(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function own(path: string, { ids: { uid, gid } }: PostgresUser): Promise<void> {
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
}

async function childrenOf(parent: number): Promise<number[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const parents = await Promise.all(pids.map(parentOf));
  return pids.filter((_, index) => parents[index] === parent);
}

async function parentOf(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // "pid (name) state ppid …", where the name may hold anything.
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1]);
}

async function alive(pid: number): Promise<boolean> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return text !== '' && !text.slice(text.lastIndexOf(')') + 2).startsWith('Z');
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has gone by itself.
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const address = probe.address();
  probe.close();
  await once(probe, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}
