import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { OWN_SESSION } from './own-session.ts';

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
  /** Keep everything that comes, for {@link Load.kept}. */
  readonly keep?: boolean;
}

/** An event that came, with id. */
export interface KeptEvent {
  readonly id: number;
  /** When the read that its last byte came with returned, in microseconds of `nowMicroseconds`. */
  readonly at: number;
}

/** All that one connection got. */
export interface KeptStream {
  /** Where it began: every later event must be in `events`. */
  readonly start: number;
  /** Those of the outbox, in the order in which they came. */
  readonly events: readonly KeptEvent[];
}

/** Takes apart what load.c dumps. */
function keptStreams(dumped: Buffer, connections: number): KeptStream[] {
  const streams = Array.from({ length: connections }, () => ({
    start: -1,
    rest: '',
    events: [] as KeptEvent[],
  }));
  for (let offset = 0; offset < dumped.length; ) {
    const [connection, length] = [dumped.readUInt32LE(offset), dumped.readUInt32LE(offset + 4)];
    const at = dumped.readDoubleLE(offset + 8);
    const text = dumped.toString('latin1', offset + 16, offset + 16 + length);
    offset += 16 + length;
    const stream = streams[connection];
    if (stream === undefined) throw new Error(`there is no connection ${connection}`);
    const blocks = (stream.rest + text).split('\n\n');
    stream.rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const start = /^last-event-id: (\d+)/im.exec(block)?.[1];
      if (stream.start < 0 && start !== undefined) stream.start = Number(start);
      // What is of the outbox has a colon in its type. Comments and chunk sizes stand on lines of their own.
      const id = /^event: [a-z-]+:.*\n(?:.*\n)*?id: (\d+)$/m.exec(block)?.[1];
      if (id !== undefined) stream.events.push({ id: Number(id), at });
    }
  }
  for (const { start } of streams) if (start < 0) throw new Error('a stream did not say where it begins');
  return streams;
}

/** Many subscribers in a process written in C (load.c), built when first needed. */
export class Load {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #dir: string;
  readonly #connections: number;
  /** Seconds until every stream had begun. */
  openSeconds = 0;

  private constructor(child: ChildProcess, dir: string, connections: number) {
    this.#child = child;
    this.#dir = dir;
    this.#connections = connections;
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
    keep = false,
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
      {
        ...OWN_SESSION,
        stdio: ['pipe', 'pipe', 'inherit'],
        env: { ...(caughtUp && { CAUGHT_UP: '1' }), ...(keep && { KEEP: '1' }) },
      },
    );
    child.once('exit', () => rmSync(dir, { recursive: true, force: true }));
    return new Load(child, dir, connections);
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

  /** Everything that has come so far, by connection; with `keep` only. */
  async kept(): Promise<KeptStream[]> {
    const file = join(this.#dir, 'kept');
    this.#child.stdin?.write(`dump ${file}\n`);
    await this.#line('dumped');
    return keptStreams(readFileSync(file), this.#connections);
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
