import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import pg from 'pg';
import { findPostgresBinaries } from '../../../src/embedded/postgres-binaries.ts';
import { choosePostgresUser, type PostgresUser } from '../../../src/embedded/postgres-user.ts';

const run = promisify(execFile);
const SHIM_SOURCE = fileURLToPath(new URL('flush-shim.c', import.meta.url));

/** Large enough that no checkpoint falls into a run; the rest as a server comes. */
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  max_connections: '400',
  shared_buffers: '256MB',
  max_wal_size: '8GB',
  checkpoint_timeout: '1h',
  wal_sync_method: 'fdatasync',
};

/** A Postgres of the benchmark's own, thrown away afterwards; its disk flushes take a time that we choose. */
export class BenchPostgres {
  /** The machine's, whatever the server is. */
  readonly pgbench: string;
  readonly port: number;
  readonly version: string;
  readonly #postgres: string;
  readonly #dir: string;
  readonly #user: PostgresUser;
  #server: ChildProcess | undefined;
  readonly #onExit = (): void => this.#destroy();

  private constructor(at: {
    pgbench: string;
    postgres: string;
    port: number;
    version: string;
    dir: string;
    user: PostgresUser;
  }) {
    this.pgbench = at.pgbench;
    this.#postgres = at.postgres;
    this.port = at.port;
    this.version = at.version;
    this.#dir = at.dir;
    this.#user = at.user;
    process.on('exit', this.#onExit);
  }

  /**
   * Makes a cluster, not started; with BENCH_POSTGRES=embedded of the embedded Postgres, else of the newest one that is installed.
   * @throws if this machine lacks a C compiler, or a Postgres with pgbench
   */
  static async create(): Promise<BenchPostgres> {
    const bindir = await findBindir();
    const dir = mkdtempSync(join(tmpdir(), 'settlewire-bench-'));
    const user = await choosePostgresUser(join(dir, 'data'));
    const { initdb, postgres } =
      process.env['BENCH_POSTGRES'] === 'embedded'
        ? await findPostgresBinaries(user)
        : { initdb: join(bindir, 'initdb'), postgres: join(bindir, 'postgres') };
    const version = (await run(postgres, ['--version'])).stdout.trim();
    const pgbench = join(bindir, 'pgbench');
    const server = new BenchPostgres({ pgbench, postgres, port: await freePort(), version, dir, user });
    chmodSync(dir, 0o755);
    await run('cc', ['-O2', '-shared', '-fPIC', '-o', join(dir, 'flush-shim.so'), SHIM_SOURCE]);
    if (user.ids.uid !== undefined) chownSync(dir, user.ids.uid, user.ids.gid ?? user.ids.uid);
    const options = [
      '-D',
      join(dir, 'data'),
      '-U',
      'postgres',
      '-A',
      'trust',
      '--no-sync',
      '--locale=C',
      '-E',
      'UTF8',
    ];
    await run(initdb, options, { ...user.ids, cwd: dir });
    return server;
  }

  /** A directory with its Unix socket, the quickest way in. */
  get socketDir(): string {
    return this.#dir;
  }

  url(database: string): string {
    return `postgres://postgres@127.0.0.1:${this.port}/${database}`;
  }

  /**
   * Starts it, or starts it anew, with flushes of this length. With `keepHeap` glibc gives no memory back to the system: whether a session
   * does so at each commit, and pays a third more for it, is decided by what happens to lie at the end of its heap.
   */
  async start({ flushMs, keepHeap = false }: { flushMs: number; keepHeap?: boolean }): Promise<void> {
    await this.#shutDown();
    const settings = { ...SETTINGS, port: String(this.port), unix_socket_directories: this.#dir };
    this.#server = spawn(
      this.#postgres,
      ['-D', join(this.#dir, 'data'), ...Object.entries(settings).flatMap(([k, v]) => ['-c', `${k}=${v}`])],
      {
        ...this.#user.ids,
        cwd: this.#dir,
        stdio: 'ignore',
        env: {
          LD_PRELOAD: join(this.#dir, 'flush-shim.so'),
          FLUSH_MICROSECONDS: String(flushMs * 1000),
          ...(keepHeap ? { MALLOC_TRIM_THRESHOLD_: '67108864', MALLOC_TOP_PAD_: '1048576' } : {}),
        },
      },
    );
    const deadline = performance.now() + 20_000;
    for (;;) {
      try {
        await this.query('postgres', 'select 1');
        return;
      } catch (error) {
        if (this.#server.exitCode !== null || performance.now() > deadline)
          throw new Error("the benchmark's Postgres does not start", { cause: error });
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  /** One statement on a connection of its own. */
  async query(database: string, text: string): Promise<Record<string, unknown>[]> {
    const client = new pg.Client({ connectionString: this.url(database) });
    client.on('error', () => {});
    await client.connect();
    try {
      return (await client.query(text)).rows ?? [];
    } finally {
      await client.end();
    }
  }

  /** Stops it and removes every trace. */
  async stop(): Promise<void> {
    await this.#shutDown();
    this.#destroy();
    process.off('exit', this.#onExit);
  }

  async #shutDown(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, 'exit');
    server.kill('SIGINT');
    await ended;
  }

  #destroy(): void {
    this.#server?.kill('SIGQUIT');
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** The newest installation that has both postgres and pgbench. */
async function findBindir(): Promise<string> {
  const debian = '/usr/lib/postgresql';
  const candidates = existsSync(debian)
    ? readdirSync(debian)
        .sort((a, b) => Number(b) - Number(a))
        .map((version) => join(debian, version, 'bin'))
    : [];
  const configured = await run('pg_config', ['--bindir']).then(
    ({ stdout }) => stdout.trim(),
    () => undefined,
  );
  if (configured !== undefined) candidates.push(configured);
  const found = candidates.find(
    (dir) => existsSync(join(dir, 'postgres')) && existsSync(join(dir, 'pgbench')),
  );
  if (found === undefined)
    throw new Error(
      'no Postgres with pgbench: install postgresql and postgresql-contrib, or put pg_config on the PATH',
    );
  return found;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
