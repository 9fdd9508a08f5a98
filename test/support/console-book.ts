/*
 * Runs a page of docs as its reader would: each ```bash block is pasted into a real bash, and the ```text block right after it is
 * what came of it. `bash terminal=2` is another terminal. `bash open` does not end: its text is what it shows so far, and a
 * `text terminal=2` that stands alone is what it shows then. All blocks run in their order; a terminal keeps its variables.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { waitFor } from './wait-for.ts';

/** A step of a page. */
export interface Step {
  readonly terminal: string;
  /** What is pasted; undefined: nothing, the terminal goes on with what it runs. */
  readonly script: string | undefined;
  readonly open: boolean;
  /** What the page shows; undefined: nothing is said of it. */
  readonly shown: string | undefined;
  /** Of the shown text, in the page: where it begins and ends. */
  readonly at: readonly [number, number] | undefined;
  readonly line: number;
}

const BLOCK = /^```(bash|text)((?: [a-z]+(?:=\w+)?)*)\n([\s\S]*?)^```$/gm;

export function readSteps(page: string): Step[] {
  const steps: Step[] = [];
  let end = -1;
  for (const match of page.matchAll(BLOCK)) {
    const [whole, kind, info = '', body = ''] = match;
    const bodyAt = match.index + whole.length - body.length - 3;
    const shown = { shown: body, at: [bodyAt, bodyAt + body.length] as const };
    const previous = steps.at(-1);
    const terminal =
      /terminal=(\w+)/.exec(info)?.[1] ?? (kind === 'text' ? previous?.terminal : undefined) ?? '1';
    const line = page.slice(0, match.index).split('\n').length;
    if (kind === 'bash')
      steps.push({
        terminal,
        script: body,
        open: info.includes('open'),
        shown: undefined,
        at: undefined,
        line,
      });
    else if (
      previous?.shown === undefined &&
      previous?.terminal === terminal &&
      page.slice(end, match.index).trim() === ''
    )
      steps[steps.length - 1] = { ...previous, ...shown };
    else steps.push({ terminal, script: undefined, open: true, line, ...shown });
    end = match.index + whole.length;
  }
  return steps;
}

const VOLATILE: readonly (readonly [RegExp, string])[] = [
  [/\beyJ[\w-]+(…|(\.[\w-]+){1,2})/g, '<token>'],
  [/\b(?![0-9a-f]{8}-0000-4000-8000-)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, '<uuid>'],
  [/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+\d\d)?/g, '<time>'],
  [/\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT/g, '<date>'],
  [/127\.0\.0\.1:\d+/g, '127.0.0.1:<port>'],
  // What the doctor says of the server and the machine at hand.
  [/^(ok|warn) +(version|open files|connections|database|rights) .*\n/gm, ''],
  [/^\d+ ok, \d+ to mind/gm, '<n> ok, <n> to mind'],
  [/^retry: \d+$/gm, 'retry: <ms>'],
  [/"retryAfterMs":\d+/g, '"retryAfterMs":<ms>'],
  [/Max-Age=\d+/g, 'Max-Age=<s>'],
  [/^(Retry-After|RateLimit[\w-]*): .*$/gim, '$1: <s>'],
  [/\b\d+(\.\d+)? (ms|s)\b/g, '<span>'],
  // Ids of a new epoch begin with what the clock names.
  [/\b\d{13,15}\b/g, '<id>'],
  [/[ \t\r]+$/gm, ''],
];

/** What a page has of an output: without heartbeats, and with the beginning of a token. */
export function presentable(text: string): string {
  return `${text
    .replaceAll(/^:.*\n/gm, '')
    // Those of a quiet client come when a heartbeat is due.
    .replaceAll(/^event: cursor\ndata: .*\nid: .*\n\n/gm, '')
    .replaceAll(/\b(eyJ\w{5})[\w-]*(\.[\w-]+){1,2}/g, '$1…')
    .trim()}\n`;
}

/** The text without what differs from run to run. */
export function settled(text: string): string {
  let result = presentable(text);
  for (const [pattern, replacement] of VOLATILE) result = result.replaceAll(pattern, replacement);
  return result.trim();
}

const LOADER = fileURLToPath(new URL('./typescript.mjs', import.meta.url));
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
/** A line that no command prints. */
const END = '-- the end of what was pasted --';
const OPEN_PATIENCE_MS = 30_000;
const PATIENCE_MS = 90_000;

/** A run of one page, in a directory of its own with `settlewire` in the PATH. */
export class ConsoleBook {
  readonly #terminals = new Map<string, Terminal>();
  readonly #environment: Readonly<Record<string, string>>;
  readonly #directory: string;

  private constructor(directory: string, environment: Readonly<Record<string, string>>) {
    this.#directory = directory;
    this.#environment = environment;
  }

  static async open(environment: Readonly<Record<string, string>>): Promise<ConsoleBook> {
    const directory = await mkdtemp(join(tmpdir(), 'settlewire-docs-'));
    await chmod(directory, 0o755);
    const program = join(directory, 'settlewire');
    await writeFile(program, `#!/bin/sh\nexec '${process.execPath}' --import '${LOADER}' '${MAIN}' "$@"\n`, {
      mode: 0o755,
    });
    const { PATH = '', HOME = '' } = process.env;
    return new ConsoleBook(directory, {
      HOME,
      TERM: 'dumb',
      TZ: 'UTC',
      LC_ALL: 'C.UTF-8',
      PATH: `${directory}:${PATH}`,
      ...environment,
    });
  }

  /** @returns what came of it: of an open step, as soon as it is what the page shows, or after a while in any case */
  async run({ terminal: name, script, open, shown }: Step, patienceMs = OPEN_PATIENCE_MS): Promise<string> {
    const terminal = this.#terminals.get(name) ?? new Terminal(this.#directory, this.#environment);
    this.#terminals.set(name, terminal);
    const done = script === undefined ? undefined : await terminal.paste(script);
    if (!open && done !== undefined) {
      await waitFor(done, {
        what: `the end of:\n${script}\nwhich said:\n${terminal.unread}`,
        timeoutMs: PATIENCE_MS,
      });
      return terminal.read();
    }
    const wanted = settled(shown ?? '');
    await waitFor(() => settled(terminal.unread) === wanted, {
      what: wanted,
      timeoutMs: patienceMs,
    }).catch(() => {});
    return terminal.read();
  }

  async close(): Promise<void> {
    await Promise.all([...this.#terminals.values()].map((terminal) => terminal.close()));
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** A bash whose output is one text. */
class Terminal {
  readonly #shell: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #directory: string;
  #output = '';
  #ends = 0;
  #pasted = 0;

  constructor(directory: string, env: Readonly<Record<string, string>>) {
    this.#directory = directory;
    // A process group of its own, so that whatever it leaves behind ends with it.
    this.#shell = spawn('bash', ['--noprofile', '--norc'], {
      cwd: directory,
      env,
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#ended = once(this.#shell, 'exit');
    this.#shell.stdin?.write('exec 2>&1\n');
    this.#shell.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const parts = `${this.#output}${text}`.split(`\n${END}\n`);
      this.#ends += parts.length - 1;
      this.#output = parts.join('\n');
    });
  }

  get unread(): string {
    return this.#output;
  }

  /** What has come since the last time. */
  read(): string {
    const text = this.#output;
    this.#output = '';
    return text;
  }

  /** @returns whether it has ended by now */
  async paste(script: string): Promise<() => boolean> {
    this.#pasted += 1;
    const path = join(this.#directory, `.pasted-${this.#shell.pid}-${this.#pasted}`);
    await writeFile(path, script);
    const due = this.#ends + 1;
    this.#shell.stdin?.write(`. '${path}' </dev/null; printf '\\n${END}\\n'\n`);
    return () => this.#ends >= due;
  }

  async close(): Promise<void> {
    const { pid } = this.#shell;
    if (pid !== undefined && this.#shell.exitCode === null) {
      try {
        process.kill(-pid, 'SIGTERM');
        process.kill(-pid, 'SIGKILL');
      } catch {
        // It has gone by itself.
      }
    }
    await this.#ended;
  }
}
