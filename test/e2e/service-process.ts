import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { waitFor } from '../support/wait-for.ts';

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));

/** `settlewire serve` as a process of its own, so that it can be killed as the kernel or a deploy would. */
export interface ServiceProcess {
  readonly url: string;
  /** What it has printed for people so far. */
  readonly output: string;
  /** @param signal SIGKILL for a crash, SIGTERM for a deploy; resolves when the process is gone */
  end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void>;
}

/** Starts the service on a port of 127.0.0.1; resolves when it is ready. */
export async function startServiceProcess(
  port: number,
  environment: Record<string, string>,
): Promise<ServiceProcess> {
  const child = spawn(process.execPath, ['--import', 'tsx', MAIN, 'serve'], {
    env: {
      PATH: process.env.PATH,
      HOST: '127.0.0.1',
      PORT: String(port),
      ADMIN_PORT: '0',
      DRAIN_SECONDS: '0',
      RETRY_MS: '100',
      HEARTBEAT_SECONDS: '0.5',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let errors = '';
  child.stdout.on('data', (bytes) => {
    output += bytes;
  });
  child.stderr.on('data', (bytes) => {
    errors += bytes;
  });
  const url = `http://127.0.0.1:${port}`;
  const service: ServiceProcess = {
    url,
    get output() {
      return output;
    },
    end: (signal) => end(child, signal),
  };
  try {
    await waitFor(
      async () => {
        if (child.exitCode !== null) throw new Error(`the service exited with ${child.exitCode}: ${errors}`);
        return (await fetch(`${url}/readyz`)).ok;
      },
      { what: 'the service to be ready', timeoutMs: 20_000 },
    );
  } catch (error) {
    await end(child, 'SIGKILL');
    throw error;
  }
  return service;
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}

/** A port that nobody listens on; the same one is needed twice, before and after a crash. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
