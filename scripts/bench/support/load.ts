import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const SOURCE = fileURLToPath(new URL('load.c', import.meta.url));

/** What has come since the last `expect`. */
export interface Came {
  readonly events: number;
  readonly bytes: number;
  /** From `expect` to the last event. */
  readonly seconds: number;
  /** The least and the most that one connection got. */
  readonly least: number;
  readonly most: number;
  /** Connections that the server has closed. */
  readonly closed: number;
}

export interface LoadOptions {
  readonly url: string;
  readonly connections: number;
  /** Paths with headers; connection n asks for number n modulo their number. */
  readonly requests: readonly { readonly path: string; readonly headers?: Record<string, string> }[];
  readonly atOnce?: number;
  /** A stream has begun when it says `caught-up`, not when it answers. */
  readonly caughtUp?: boolean;
}

/** Many subscribers in a process written in C (load.c), built when first needed. */
export class Load {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  /** Seconds until every stream had begun. */
  openSeconds = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stdout === null) throw new Error('no standard output');
    this.#lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  }

  /** Connects; resolves when every stream has begun. */
  static async open(options: LoadOptions): Promise<Load> {
    const load = await Load.begin(options);
    await load.opened();
    return load;
  }

  /** As {@link open}, without waiting. */
  static async begin({
    url,
    connections,
    requests,
    atOnce = 64,
    caughtUp = false,
  }: LoadOptions): Promise<Load> {
    const dir = mkdtempSync(join(tmpdir(), 'settlewire-load-'));
    await run('cc', ['-O2', '-o', join(dir, 'load'), SOURCE]);
    const { hostname, port } = new URL(url);
    const texts = requests.map(({ path, headers = {} }) =>
      [
        `GET ${path} HTTP/1.1`,
        `Host: ${hostname}`,
        'Accept: text/event-stream',
        ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
        '\r\n',
      ].join('\r\n'),
    );
    writeFileSync(join(dir, 'requests'), texts.join(''));
    const child = spawn(
      join(dir, 'load'),
      [hostname, port, join(dir, 'requests'), String(connections), String(atOnce)],
      { stdio: ['pipe', 'pipe', 'inherit'], env: caughtUp ? { CAUGHT_UP: '1' } : {} },
    );
    child.once('exit', () => rmSync(dir, { recursive: true, force: true }));
    return new Load(child);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async opened(): Promise<void> {
    const [, microseconds] = await this.#line('open');
    this.openSeconds = Number(microseconds) / 1e6;
  }

  /** Sets the counters to nothing; {@link came} resolves when so many events have come. */
  expect(events: number): void {
    this.#child.stdin?.write(`expect ${events}\n`);
  }

  async came(): Promise<Came> {
    const [, events, bytes, microseconds, least, most, closed] = (await this.#line('came')).map(Number);
    return {
      events: events ?? 0,
      bytes: bytes ?? 0,
      seconds: (microseconds ?? 0) / 1e6,
      least: least ?? 0,
      most: most ?? 0,
      closed: closed ?? 0,
    };
  }

  /** What has come so far. */
  report(): Promise<Came> {
    this.#child.stdin?.write('report\n');
    return this.came();
  }

  /** The first so many read no more. */
  async stopReading(connections: number): Promise<void> {
    this.#child.stdin?.write(`stop ${connections}\n`);
    await this.#line('stopped');
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.stdin?.end('quit\n');
    await once(this.#child, 'exit');
  }

  async #line(expected: string): Promise<string[]> {
    const { value, done } = await this.#lines.next();
    const words = done === true ? [] : value.split(' ');
    if (words[0] !== expected) throw new Error(`the load client said ${value ?? 'nothing more'}`);
    return words;
  }
}
