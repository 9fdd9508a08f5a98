import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { OWN_SESSION } from './own-session.ts';

const run = promisify(execFile);
const SOURCE = fileURLToPath(new URL('least-relay.c', import.meta.url));
const POLL_MICROSECONDS = 5000;

/** The least deliverer, in C (least-relay.c): a process over one table of one database. */
export class LeastRelay {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  /** Where subscribers find it. */
  url = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout === null) throw new Error('no standard output');
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  }

  /**
   * Builds and starts it; resolves when it listens.
   * @throws if this machine lacks a C compiler, or libpq's headers
   */
  static async start(databaseUrl: string, tableName: string): Promise<LeastRelay> {
    const dir = mkdtempSync(join(tmpdir(), 'settlewire-least-'));
    const program = join(dir, 'least-relay');
    const headers = (await run('pg_config', ['--includedir'])).stdout.trim();
    await run('cc', ['-O2', `-I${headers}`, '-o', program, SOURCE, '-lpq', '-lpthread']);
    const child = spawn(program, [databaseUrl, tableName, String(POLL_MICROSECONDS)], {
      ...OWN_SESSION,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    child.once('exit', () => rmSync(dir, { recursive: true, force: true }));
    const relay = new LeastRelay(child);
    relay.url = `http://127.0.0.1:${await relay.#line()}`;
    return relay;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Rows read since its start. */
  async events(): Promise<number> {
    this.#child.stdin?.write('\n');
    return Number(await this.#line());
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.kill();
    await ended;
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('the least relay has ended');
    return value;
  }
}
