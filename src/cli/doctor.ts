import { type Config, ConfigError, parseConfig, parseKeylessConfig } from '../config.ts';
import { examine } from '../doctor/doctor.ts';
import { type Finding, fail, type Grade, worst } from '../doctor/finding.ts';
import { runningEmbeddedUrl } from '../embedded/running.ts';
import { type Command, instanceUrl, readArguments } from './command.ts';
import { type Paint, painter } from './terminal.ts';

const EXIT_CODES: Readonly<Record<Grade, number>> = { ok: 0, warn: 1, fail: 2 };

export const doctorCommand: Command = {
  name: 'doctor',
  summary: 'Look at database, settings and this machine for what hurts, and say what to do.',
  help: `settlewire doctor: looks at everything that serve needs, and says what to do about what it does not like. Changes nothing.

Usage: settlewire doctor [options]

  --url URL   An instance to ask as well, such as http://127.0.0.1:8080. Repeat it for each.
  --json      {"grade":"ok|warn|fail","findings":[{"check","grade","says","advice"},…]}
  --help      This text.

It looks at the configuration, open files, the database and whether LISTEN works on LISTEN_DATABASE_URL, its version, clock,
connections, notification queue and settings, migrations, rights, epoch, triggers, partitions, retention, who holds the horizon, and
the instances that are connected. Run it with the settings of serve, as its role; beside a serve that runs its own Postgres, as it is.

Exit codes: 0 all is well; 1 something will hurt one day; 2 something is broken, or the command line is wrong.
`,
  run: (args) =>
    runDoctor(args, undefined, {
      print: (text) => void process.stdout.write(text),
      paint: painter(process.stdout),
    }),
};

export interface Output {
  readonly print: (text: string) => void;
  readonly paint: Paint;
}

/**
 * @param environment undefined: the process's own
 * @returns the exit code
 * @throws UsageError
 */
export async function runDoctor(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>> | undefined,
  { print, paint }: Output,
): Promise<number> {
  const { values } = readArguments('doctor', {
    args: [...args],
    options: { url: { type: 'string', multiple: true }, json: { type: 'boolean' } },
  });
  const urls = (values.url ?? []).map((url) => instanceUrl('--url', url));
  const findings: Finding[] = [];
  const tell = (finding: Finding): void => {
    findings.push(finding);
    if (!values.json) print(line(finding, paint));
  };
  const read = await readConfig(environment);
  for (const mistake of read.mistakes) tell(mistake);
  if (read.usable !== undefined) for await (const finding of examine({ ...read.usable, urls })) tell(finding);
  const grade = worst(findings);
  print(values.json ? `${JSON.stringify({ grade, findings })}\n` : summary(findings));
  return EXIT_CODES[grade];
}

interface ReadConfig {
  readonly mistakes: readonly Finding[];
  /** Left out if there is no database to look at. */
  readonly usable?: { readonly config: Config; readonly databaseUrl: string };
}

/** What can be read of the configuration: a missing key keeps nobody from looking at the database. */
async function readConfig(
  environment: Readonly<Record<string, string | undefined>> | undefined,
): Promise<ReadConfig> {
  const mistakes: Finding[] = [];
  const note = (error: unknown): void => {
    if (!(error instanceof ConfigError)) throw error;
    for (const mistake of error.mistakes)
      mistakes.push(fail('configuration', mistake, 'docs/configuration.md has every variable'));
  };
  try {
    const config = parseConfig(environment);
    const databaseUrl = config.databaseUrl ?? (await runningEmbeddedUrl(config.dataDir));
    if (databaseUrl !== undefined) return { mistakes, usable: { config, databaseUrl } };
    return {
      mistakes: [
        fail(
          'database',
          `DATABASE_URL is not set, and no settlewire runs a Postgres of its own in ${config.dataDir}`,
          'set DATABASE_URL, or run settlewire serve and ask again from the same directory',
        ),
      ],
    };
  } catch (error) {
    note(error);
  }
  try {
    const config = parseKeylessConfig(environment);
    return { mistakes, usable: { config, databaseUrl: config.databaseUrl } };
  } catch {
    return { mistakes };
  }
}

const COLOURS = { ok: 'green', warn: 'yellow', fail: 'red' } as const;

function line({ check, grade, says, advice }: Finding, paint: Paint): string {
  const first = `${paint(COLOURS[grade], grade.padEnd(4))}  ${check.padEnd(17)}  ${says}\n`;
  return advice === undefined ? first : `${first}${' '.repeat(25)}${paint('dim', `-> ${advice}`)}\n`;
}

function summary(findings: readonly Finding[]): string {
  const count = (grade: Grade): number => findings.filter((finding) => finding.grade === grade).length;
  return `\n${count('ok')} ok, ${count('warn')} to mind, ${count('fail')} broken\n`;
}
