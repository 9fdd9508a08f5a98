import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { asService } from './service-role.ts';
import { JWT_SECRET } from './tokens.ts';
import { waitFor } from './wait-for.ts';

/** The loader that the tests themselves run with. */
const LOADER = new URL('./typescript.mjs', import.meta.url).href;
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Settings of a service over a test database: quick to come back, quiet. */
const SETTINGS = {
  JWT_SECRET,
  HOST: '127.0.0.1',
  DRAIN_SECONDS: '0',
  HEARTBEAT_SECONDS: '0.2',
  RETRY_MS: '30',
  AUTH_FAILURES_PER_MINUTE: '1000000',
  CONNECT_RATE_PER_MINUTE: '1000000',
  SESSION_RATE_PER_MINUTE: '1000000',
  SNAPSHOT_RATE_PER_MINUTE: '1000000',
  LOG_LEVEL: 'warn',
};

/** `settlewire <command>` as a child process, as a person would start it; may be started again, on the same ports. */
export class ServiceProcess {
  readonly url: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly #command: readonly string[];
  readonly #ownSession: boolean;
  #child: ChildProcess | undefined;
  #exit: Promise<Exit> = Promise.resolve({ code: null, signal: null });
  /** What the present run has printed. */
  stdout = '';
  stderr = '';

  private constructor(environment: Record<string, string>, command: readonly string[], ownSession: boolean) {
    this.environment = environment;
    this.url = `http://127.0.0.1:${environment['PORT']}`;
    this.#command = command;
    this.#ownSession = ownSession;
  }

  /**
   * A process on free ports, not started.
   * @param environment as in the configuration reference; nothing is inherited but what a program needs to run
   * @param options `ownSession`: not of the terminal's that starts it, whose Ctrl-C it does not see then
   */
  static async create(
    environment: Record<string, string>,
    {
      command = ['serve'],
      settings = SETTINGS,
      ownSession = false,
    }: { command?: readonly string[]; settings?: Record<string, string>; ownSession?: boolean } = {},
  ): Promise<ServiceProcess> {
    const [port, adminPort] = await freePorts(2);
    return new ServiceProcess(
      { ...settings, PORT: String(port), ADMIN_PORT: String(adminPort), ...environment },
      command,
      ownSession,
    );
  }

  /** A service over this database, as the service's role, ready. */
  static async start(databaseUrl: string, environment: Record<string, string> = {}): Promise<ServiceProcess> {
    const service = await ServiceProcess.create({ ...environment, DATABASE_URL: asService(databaseUrl) });
    await service.start();
    return service;
  }

  /** Starts it; resolves when `/readyz` says so. */
  async start(timeoutMs = 60_000): Promise<void> {
    this.spawn();
    await waitFor(async () => this.#child?.exitCode !== null || (await this.readiness()) === 200, {
      what: `the service to be ready; it said: ${this.stderr}`,
      timeoutMs,
    });
    if (this.#child?.exitCode !== null) throw new Error(`the service has ended:\n${this.stderr}`);
  }

  /** Starts it and waits for nothing. */
  spawn(): void {
    const { PATH = '', HOME = '' } = process.env;
    const child = spawn(process.execPath, ['--import', LOADER, 'src/main.ts', ...this.#command], {
      cwd: ROOT,
      env: { PATH, HOME, ...this.environment },
      detached: this.#ownSession,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.stdout = '';
    this.stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.#child = child;
    // `close` comes after the last output, `exit` does not.
    this.#exit = once(child, 'close').then(([code, signal]) => ({ code, signal }));
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** How the present run ends. */
  get exit(): Promise<Exit> {
    return this.#exit;
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** The status of `/readyz`; undefined if nobody answers. */
  async readiness(): Promise<number | undefined> {
    try {
      const response = await fetch(`${this.url}/readyz`, { headers: { Connection: 'close' } });
      await response.arrayBuffer();
      return response.status;
    } catch {
      return undefined;
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** `kill -9`, as a crash. */
  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.#exit;
  }

  /** SIGTERM, as a deploy; resolves when it has ended. */
  async terminate(): Promise<Exit> {
    this.signal('SIGTERM');
    return this.#exit;
  }
}

/** Ports that were free a moment ago. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  for (const server of servers) server.close();
  await Promise.all(servers.map((server) => once(server, 'close')));
  return ports;
}
