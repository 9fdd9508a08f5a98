import { readFileSync } from 'node:fs';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { parseTopic, TopicError } from '../access/topics.ts';
import { parsePort } from '../config.ts';
import type { Item } from '../tail/connection.ts';
import { type Outcome, TailError, tail } from '../tail/tail.ts';
import {
  type Command,
  EXIT,
  instanceUrl,
  readArguments,
  timeSpan,
  UsageError,
  wholeNumber,
} from './command.ts';
import { type Format, show } from './show.ts';
import { type Paint, painter } from './terminal.ts';

const HELP = `settlewire tail: shows events as they come, from a running instance, over any number of connections.

Usage: settlewire tail [options] [topic…]

  topic…                stream:{uuid}, escrow:{uuid}, user:{uuid} or wallet:{address}. Default: everything that you may see.
  --url URL             The instance. Default: this machine, at PORT (8080).
  --token TOKEN         An access token. For testing: --token "$(settlewire token)".
  --token-file PATH     A file that has it, - for standard input: what is on a command line others can see.
  --cursor ID           Begin after this event; oldest: with the oldest that there is. Default: with what happens from now on.
  --cursor-file PATH    Go on from the id in this file, if it exists, and keep it up to date: an event is in the output before
                        its id is in the file, so a tail that is killed may repeat events, and skips none.
  --until caught-up     End when everything there is has been shown.
  --count N             End after N events.
  --patience TIME       Give up after so long without a connection: 90s, 15m. Default: never; with --until and --count 30s.
  --json                A line {"id","type","data"} for each event.
  --raw                 The stream itself, as a client gets it, heartbeats included.
  --help                This text.

Events go to standard output, what happens to the connection to standard error. Each event comes once and in order, also when
the service is restarted. Where that cannot be, the service says reset, and so does tail: something was missed.

Exit codes: 0 ended as asked; 1 refused, or gave up, or --until or --count met a reset on the way; 2 the command line is wrong.
`;

export const tailCommand: Command = {
  name: 'tail',
  summary: 'Show events as they come, or those since a cursor.',
  help: HELP,
  run: (args) =>
    runTail(args, {
      write: (text) => new Promise((resolve) => void process.stdout.write(text, () => resolve())),
      note: (text) => void process.stderr.write(`settlewire: ${text}\n`),
      paint: painter(process.stdout),
    }),
};

export interface Output {
  /** Resolves when it has been taken. */
  readonly write: (text: string) => Promise<void>;
  readonly note: (text: string) => void;
  readonly paint: Paint;
}

interface Options {
  readonly topics: readonly string[];
  readonly url: string;
  readonly token: string;
  readonly cursor: string | undefined;
  readonly cursorFile: string | undefined;
  readonly untilCaughtUp: boolean;
  readonly count: number;
  readonly patienceMs: number;
  readonly format: Format;
}

/**
 * @returns the exit code
 * @throws UsageError, or TailError of one line
 */
export async function runTail(args: readonly string[], { write, note, paint }: Output): Promise<number> {
  const options = parseOptions(args);
  const query = options.topics.map((topic) => `topic=${encodeURIComponent(topic)}`).join('&');
  const outcome = await tail({
    ...options,
    url: `${options.url}/v1/events${query && `?${query}`}`,
    cursor: (await readCursor(options.cursorFile)) ?? (await firstCursor(options)),
    take: async (items, cursor) => {
      const text = items.map((item: Item) => show(item, options.format, paint)).join('');
      if (text !== '') await write(text);
      if (options.cursorFile !== undefined && cursor !== undefined)
        await keepCursor(options.cursorFile, cursor);
    },
    note,
    random: Math.random,
  });
  return exitCode(outcome, note);
}

function exitCode({ events, resets }: Outcome, note: Output['note']): number {
  if (resets === 0) return EXIT.done;
  note(`${events} events were shown, and others missed: take the state again`);
  return EXIT.failed;
}

function parseOptions(args: readonly string[]): Options {
  const text = { type: 'string' } as const;
  const { values, positionals } = readArguments('tail', {
    args: [...args],
    allowPositionals: true,
    options: {
      url: text,
      token: text,
      'token-file': text,
      cursor: text,
      'cursor-file': text,
      until: text,
      count: text,
      patience: text,
      json: { type: 'boolean' },
      raw: { type: 'boolean' },
    },
  });
  if (values.json && values.raw) throw new UsageError('--json and --raw: one of the two');
  if (values.until !== undefined && values.until !== 'caught-up')
    throw new UsageError(`--until: ${JSON.stringify(values.until)} is not caught-up`);
  if (values.cursor !== undefined && !/^(oldest|0|[1-9]\d{0,14})$/.test(values.cursor))
    throw new UsageError(
      `--cursor: ${JSON.stringify(values.cursor)} is neither the id of an event nor oldest`,
    );
  const ends = values.until !== undefined || values.count !== undefined;
  return {
    topics: positionals.map(topic),
    url: instanceUrl('--url', values.url ?? `http://127.0.0.1:${parsePort()}`),
    token: readToken(values.token, values['token-file']),
    cursor: values.cursor,
    cursorFile: values['cursor-file'],
    untilCaughtUp: values.until !== undefined,
    count: wholeNumber('--count', values.count, { fallback: Number.POSITIVE_INFINITY, least: 1, most: 1e12 }),
    patienceMs:
      1000 *
      timeSpan('--patience', values.patience, {
        fallback: ends ? 30 : Number.POSITIVE_INFINITY,
        most: 365 * 86_400,
      }),
    format: values.json ? 'json' : values.raw ? 'raw' : 'pretty',
  };
}

function topic(text: string): string {
  try {
    return parseTopic(text);
  } catch (error) {
    if (error instanceof TopicError) throw new UsageError(`${JSON.stringify(text)}: ${error.message}`);
    throw error;
  }
}

function readToken(given: string | undefined, path: string | undefined): string {
  if ((given === undefined) === (path === undefined))
    throw new UsageError(
      '--token or --token-file: one of the two is needed. For testing: --token "$(settlewire token)"',
    );
  const token = given ?? readTokenFile(path ?? '');
  if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return token;
  throw new UsageError(`--token${given === undefined ? '-file' : ''}: is not an access token`);
}

function readTokenFile(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8').trim();
  } catch (error) {
    throw new UsageError(`--token-file: ${(error as Error).message}`);
  }
}

async function firstCursor({ cursor, url, token }: Options): Promise<string | undefined> {
  if (cursor !== 'oldest') return cursor;
  let response: Response;
  try {
    response = await fetch(`${url}/v1/cursor`, { headers: { Authorization: `Bearer ${token}` } });
  } catch (error) {
    const { message, cause } = error as Error & { cause?: { code?: string } };
    throw new TailError(`cannot reach ${url}: ${cause?.code ?? message}`);
  }
  const body = await response.text();
  const oldest = response.ok ? (JSON.parse(body) as { oldest?: number }).oldest : undefined;
  if (oldest === undefined)
    throw new TailError(`${url} does not tell its oldest cursor: ${response.status} ${body}`);
  return String(oldest);
}

/** Undefined if the file is not there yet. */
async function readCursor(path: string | undefined): Promise<string | undefined> {
  if (path === undefined) return undefined;
  let text: string;
  try {
    text = (await readFile(path, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new UsageError(`--cursor-file: ${(error as Error).message}`);
  }
  if (/^(0|[1-9]\d{0,14})$/.test(text)) return text;
  throw new UsageError(`--cursor-file: ${path} does not hold the id of an event`);
}

/** Whole or not at all, whenever we are killed. */
async function keepCursor(path: string, cursor: string): Promise<void> {
  await writeFile(`${path}.new`, `${cursor}\n`);
  await rename(`${path}.new`, path);
}
