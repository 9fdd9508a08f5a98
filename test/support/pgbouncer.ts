import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findProgram } from './programs.ts';
import { waitFor } from './wait-for.ts';

export interface PgBouncer {
  readonly url: string;
  stop(): Promise<void>;
}

/** A real PgBouncer before a test database; see `needPrograms`. */
export async function startPgBouncer(
  databaseUrl: string,
  poolMode: 'transaction' | 'session',
): Promise<PgBouncer> {
  const directory = await mkdtemp(join(tmpdir(), 'settlewire-pgbouncer-'));
  await chmod(directory, 0o755);
  const { hostname, port, username, password, pathname } = new URL(databaseUrl);
  const name = pathname.slice(1);
  const listen = await freePort();
  await writeFile(
    join(directory, 'ini'),
    `[databases]
${name} = host=${hostname} port=${port || 5432} dbname=${name} user=${username}${password && ` password='${decodeURIComponent(password)}'`}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listen}
unix_socket_dir =
auth_type = any
pool_mode = ${poolMode}
ignore_startup_parameters = extra_float_digits
`,
  );
  const asRoot = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
  const child = spawn(findProgram('pgbouncer') ?? 'pgbouncer', ['-q', ...asRoot, join(directory, 'ini')], {
    stdio: 'ignore',
  });
  const ended = once(child, 'exit');
  const stop = async (): Promise<void> => {
    child.kill('SIGQUIT');
    await ended;
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await waitFor(() => accepts(child, listen), { what: 'PgBouncer to listen', timeoutMs: 10_000 });
  } catch (error) {
    await stop();
    throw error;
  }
  return { url: `postgres://${username}:x@127.0.0.1:${listen}/${name}`, stop };
}

async function accepts(child: ChildProcess, port: number): Promise<boolean> {
  if (child.exitCode !== null) throw new Error(`PgBouncer has ended with ${child.exitCode}`);
  const socket = createConnection(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    return true;
  } finally {
    socket.destroy();
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
