import { type ParseArgsConfig, parseArgs } from 'node:util';

/** One of `settlewire <command>`. */
export interface Command {
  readonly name: string;
  /** One line in `settlewire --help`. */
  readonly summary: string;
  /** All of `settlewire <command> --help`. */
  readonly help: string;
  /**
   * @param args what follows the command's name
   * @returns the exit code: 0 done, 1 not done or found wanting, and what the command's help says besides
   * @throws UsageError if the command line is wrong; any other error means that it could not be done
   */
  run(args: readonly string[]): Promise<number>;
}

/** A command line that is wrong: exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

export const EXIT = { done: 0, failed: 1, usage: 2 } as const;

/**
 * `util.parseArgs` with our errors.
 * @throws UsageError of one line that names the option
 */
export function readArguments<const T extends ParseArgsConfig>(
  command: string,
  config: T,
): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    const [first = ''] = (error as Error).message.split('\n');
    throw new UsageError(`${first.replace(/\.?$/, '.')} See settlewire ${command} --help.`);
  }
}

const WHOLE = /^\d{1,15}$/;

/** @throws UsageError */
export function wholeNumber(
  option: string,
  text: string | undefined,
  { fallback, least, most }: { fallback: number; least: number; most: number },
): number {
  if (text === undefined) return fallback;
  const number = WHOLE.test(text) ? Number(text) : Number.NaN;
  if (number >= least && number <= most) return number;
  throw new UsageError(`${option}: ${JSON.stringify(text)} is not a whole number from ${least} to ${most}`);
}

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/**
 * A time span such as 90s, 15m, 12h or 7d, in seconds.
 * @throws UsageError
 */
export function timeSpan(
  option: string,
  text: string | undefined,
  { fallback, most }: { fallback: number; most: number },
): number {
  if (text === undefined) return fallback;
  const [, count, unit = 's'] = /^(\d{1,9})([smhd])?$/.exec(text) ?? [];
  const seconds = Number(count) * SECONDS[unit as keyof typeof SECONDS];
  if (seconds >= 1 && seconds <= most) return seconds;
  throw new UsageError(
    `${option}: ${JSON.stringify(text)} is not a time such as 90s, 15m, 12h or 7d, ${most / SECONDS.d}d at most`,
  );
}

/**
 * The URL of an instance, without a slash at its end.
 * @throws UsageError
 */
export function instanceUrl(option: string, text: string): string {
  if (URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)) return text.replace(/\/+$/, '');
  throw new UsageError(`${option}: ${JSON.stringify(text)} is not a URL such as http://127.0.0.1:8080`);
}
