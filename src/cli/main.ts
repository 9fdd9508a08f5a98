import { type Command, EXIT, UsageError } from './command.ts';
import { overview } from './help.ts';

/** Where a command's words go. */
export interface Streams {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: { write(text: string): unknown };
}

/**
 * Finds the command and runs it. Errors are told on stderr, each line with our name.
 * @param args what follows the program's name
 * @returns the exit code
 */
export async function runCommand(
  commands: readonly Command[],
  args: readonly string[],
  { version, stdout, stderr }: Streams & { version: string },
): Promise<number> {
  const [name = 'help', ...rest] = args;
  if (name === '--version' || name === '-V') {
    stdout.write(`${version}\n`);
    return EXIT.done;
  }
  const asked = ['help', '--help', '-h'].includes(name) ? rest[0] : name;
  const command = commands.find((candidate) => candidate.name === asked);
  if (command === undefined && asked !== undefined) {
    stderr.write(`settlewire: there is no command ${JSON.stringify(asked)}\n\n${overview(commands)}`);
    return EXIT.usage;
  }
  if (command === undefined) stdout.write(overview(commands));
  else if (name !== asked || asksForHelp(rest)) stdout.write(command.help);
  else return run(command, rest, stderr);
  return EXIT.done;
}

async function run(command: Command, args: readonly string[], stderr: Streams['stderr']): Promise<number> {
  try {
    return await command.run(args);
  } catch (error) {
    for (const line of inWords(error).split('\n')) stderr.write(`settlewire: ${line}\n`);
    return error instanceof UsageError ? EXIT.usage : EXIT.failed;
  }
}

function inWords(error: unknown): string {
  const { code, port, message } = error as { code?: string; port?: number; message?: string };
  return code === 'EADDRINUSE'
    ? `port ${port} is in use, by another program or another settlewire: set PORT, or ADMIN_PORT, to one that is free`
    : (message ?? String(error));
}

function asksForHelp(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return (end < 0 ? args : args.slice(0, end)).some((arg) => arg === '--help' || arg === '-h');
}
