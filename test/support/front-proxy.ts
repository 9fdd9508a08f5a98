import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer, connect as dial } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findProgram } from './programs.ts';
import { waitFor } from './wait-for.ts';

const run = promisify(execFile);

/** A real proxy in front of a service: its own process, configuration and ports; taken down with everything that it has made. */
export class FrontProxy {
  readonly ports: readonly number[];
  readonly dir: string;
  readonly #child: ChildProcess;

  private constructor(ports: readonly number[], dir: string, child: ChildProcess) {
    this.ports = ports;
    this.dir = dir;
    this.#child = child;
  }

  /** nginx; `configuration` is what goes between `http {` and `}`, given its ports and a directory with cert.pem and key.pem. */
  static nginx(
    count: number,
    configuration: (ports: readonly number[], dir: string) => string,
  ): Promise<FrontProxy> {
    return FrontProxy.#start(count, 'nginx', (ports, dir) => ({
      text: `daemon off; worker_processes 1; pid ${dir}/pid; error_log ${dir}/error.log;
        events {} http { access_log off;
        client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
        ${configuration(ports, dir)} }`,
      args: ['-p', dir, '-c', join(dir, 'configuration')],
    }));
  }

  /** HAProxy; `configuration` is all of it. */
  static haproxy(count: number, configuration: (ports: readonly number[]) => string): Promise<FrontProxy> {
    return FrontProxy.#start(count, 'haproxy', (ports, dir) => ({
      text: `${configuration(ports)}\n`,
      args: ['-db', '-f', join(dir, 'configuration')],
    }));
  }

  /** Caddy; `configuration` is what follows the global options, given its ports and a directory with cert.pem and key.pem. */
  static caddy(
    count: number,
    configuration: (ports: readonly number[], dir: string) => string,
  ): Promise<FrontProxy> {
    return FrontProxy.#start(count, 'caddy', (ports, dir) => ({
      text: `{\n admin off\n grace_period 1s\n auto_https disable_redirects\n}\n${configuration(ports, dir)}\n`,
      args: ['run', '--adapter', 'caddyfile', '--config', join(dir, 'configuration')],
    }));
  }

  static async #start(
    count: number,
    program: string,
    configure: (ports: readonly number[], dir: string) => { text: string; args: string[] },
  ): Promise<FrontProxy> {
    const dir = await mkdtemp(join(tmpdir(), 'settlewire-proxy-'));
    await chmod(dir, 0o755);
    await run('openssl', [
      ...[
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '1',
      ],
      ...['-subj', '/CN=localhost', '-keyout', join(dir, 'key.pem'), '-out', join(dir, 'cert.pem')],
    ]);
    const ports = await Promise.all(Array.from({ length: count }, freePort));
    const { text, args } = configure(ports, dir);
    await writeFile(join(dir, 'configuration'), text);
    const child = spawn(findProgram(program) ?? program, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir },
    });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (words: string) => {
      said += words;
    });
    const proxy = new FrontProxy(ports, dir, child);
    try {
      await waitFor(() => Promise.all(ports.map(reachable)), {
        what: () => `${program} to listen; it said: ${said}`,
      });
      return proxy;
    } catch (error) {
      await proxy.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await ended;
    }
    await rm(this.dir, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function reachable(port: number): Promise<true> {
  const socket = dial(port, '127.0.0.1');
  await once(socket, 'connect');
  socket.destroy();
  return true;
}
