import { randomUUID } from 'node:crypto';
import jwt from 'jsonwebtoken';
import { mintAccessToken } from '../access/mint.ts';
import { isUuid, normalWallet } from '../access/topics.ts';
import { type Config, parseConfig, parseKeylessConfig } from '../config.ts';
import { createPool } from '../database.ts';
import { maySee } from '../verify/checks.ts';
import { VerifyError } from '../verify/follower.ts';
import type { Reader } from '../verify/following.ts';
import type { Report } from '../verify/report.ts';
import { verify } from '../verify/verification.ts';
import { type Command, EXIT, instanceUrl, readArguments, wholeNumber } from './command.ts';

const HELP = `settlewire verify: shows that your instances deliver every event once and in order.

It writes marked events into the outbox of DATABASE_URL for a few seconds, from several connections at once, with pauses and
rollbacks; listens to them on every instance, with subscribers that drop and come back at random moments; and compares what
each got with what the outbox has. It exits with 0 only if nothing was missed, repeated, out of order or made up.

Usage: settlewire verify [options]

  --url URL              An instance, such as http://127.0.0.1:8080. Repeat it for each. Default: this machine, at PORT.
  --writers N            Connections that write at the same time (8).
  --seconds N            How long they write (10).
  --subscribers N        Subscribers on each instance (8).
  --rollback-percent N   So many of a hundred transactions are rolled back (5).
  --token TOKEN          An access token to listen with; the events then go to its own topic. Without it tokens are made
                         with JWT_SECRET or JWT_SECRETS, for users who do not exist, so that nobody else sees the events.
                         Needed with AUTHORIZE_FUNCTION: of somebody whom it lets in.
  --json                 The report as one JSON object.
  --help                 This text.

DATABASE_URL needs a role that may publish and read events: the owner of the outbox, as for serve. The events stay in the
outbox until retention drops them. In 10 seconds it writes some thousands; some of its transactions hold back
other events for up to 8 ms, which is what makes the check sharp.

Exit codes: 0 exact; 1 not exact, or it could not be checked; 2 the command line is wrong.
`;

/** Tokens outlive the run by so much. */
const SPARE_SECONDS = 300;

interface Options {
  readonly urls: readonly string[];
  readonly writers: number;
  readonly seconds: number;
  readonly subscribers: number;
  readonly rollbackPercent: number;
  readonly token: string | undefined;
  readonly json: boolean;
}

export const verifyCommand: Command = {
  name: 'verify',
  summary: 'Show that running instances deliver every event, once and in order.',
  help: HELP,
  run: async (args) =>
    (await runVerify(args, undefined, (text) => process.stdout.write(text))) ? EXIT.done : EXIT.failed,
};

/**
 * @param args what follows the command's name
 * @param environment undefined: the process's own
 * @returns whether everything came, once and in order
 * @throws UsageError, VerifyError or ConfigError, of one line, if it cannot be checked
 */
export async function runVerify(
  args: readonly string[],
  environment: Readonly<Record<string, string | undefined>> | undefined,
  print: (text: string) => void,
): Promise<boolean> {
  const options = parseOptions(args);
  // With a token nothing is signed, so no key is needed.
  const config = options.token === undefined ? parseConfig(environment) : parseKeylessConfig(environment);
  if (config.databaseUrl === null)
    throw new VerifyError('DATABASE_URL: is not set; serve prints it when it runs a Postgres of its own');
  const urls = options.urls.length > 0 ? options.urls : [`http://127.0.0.1:${config.port}`];
  const readers = await makeReaders(options, urls[0] ?? '', config);
  const pool = createPool(config.databaseUrl, {
    max: options.writers + 1,
    applicationName: 'settlewire verify',
  });
  try {
    const report = await verify({ ...options, pool, urls, readers, run: randomUUID(), random: Math.random });
    print(options.json ? `${JSON.stringify(report)}\n` : describe(report, options));
    return report.exact;
  } finally {
    await pool.end();
  }
}

/** @throws UsageError of one line that names the option */
function parseOptions(args: readonly string[]): Options {
  const text = { type: 'string' } as const;
  const { values } = readArguments('verify', {
    args: [...args],
    options: {
      url: { type: 'string', multiple: true },
      writers: text,
      seconds: text,
      subscribers: text,
      'rollback-percent': text,
      token: text,
      json: { type: 'boolean' },
    },
  });
  const whole = (
    name: 'writers' | 'seconds' | 'subscribers' | 'rollback-percent',
    fallback: number,
    least: number,
    most: number,
  ): number => wholeNumber(`--${name}`, values[name], { fallback, least, most });
  return {
    urls: (values.url ?? []).map((url) => instanceUrl('--url', url)),
    writers: whole('writers', 8, 1, 200),
    seconds: whole('seconds', 10, 1, 86_400),
    subscribers: whole('subscribers', 8, 1, 1000),
    rollbackPercent: whole('rollback-percent', 5, 0, 99),
    token: values.token,
    json: values.json === true,
  };
}

/** One user of its own for each subscriber, who exists only in the token; or the owner of the token that was given. */
async function makeReaders(
  { token, subscribers, seconds }: Options,
  url: string,
  config: Config,
): Promise<Reader[]> {
  if (token !== undefined) {
    const topic = await ownTopic(url, token);
    return Array.from({ length: subscribers }, () => ({ topic, token }));
  }
  return Array.from({ length: subscribers }, () => {
    const sub = randomUUID();
    return { topic: `user:${sub}`, token: mint(sub, seconds + SPARE_SECONDS, config) };
  });
}

async function ownTopic(url: string, token: string): Promise<string> {
  const claims = jwt.decode(token);
  const subject = typeof claims === 'object' ? claims?.sub : undefined;
  if (subject === undefined) throw new VerifyError('--token: is not an access token with a sub');
  if (isUuid(subject)) return `user:${subject.toLowerCase()}`;
  // With AUTHORIZE_FUNCTION users have ids of any form: only the instance knows whether this is one.
  const user = `user:${subject}`;
  return (await maySee(url, user, token)) ? user : `wallet:${normalWallet(subject)}`;
}

function mint(sub: string, expiresIn: number, config: Config): string {
  const token = mintAccessToken({ sub }, expiresIn, config);
  if (token === undefined) throw new VerifyError('JWT_SECRET: is not set; set it, or pass --token');
  return token;
}

function describe(report: Report, { writers, seconds }: Options): string {
  const { written, transactions, rolledBack, unsure, lost, instances, exact } = report;
  const lines = [
    `written       ${written} events in ${transactions} transactions, ${rolledBack} of them rolled back; ${writers} writers, ${seconds} s`,
  ];
  if (unsure > 0) lines.push(`broken off    ${unsure} transactions; the outbox says which of them count`);
  if (lost > 0) lines.push(`LOST          ${lost} events whose commit was confirmed are not in the outbox`);
  for (const each of instances) {
    const { p50, p99 } = each.latencyMs;
    lines.push(
      '',
      each.url,
      `  subscribers   ${each.subscribers}, which came back ${each.resumes} times`,
      `  delivered     ${each.delivered}`,
      `  missed        ${each.missed}`,
      `  duplicated    ${each.duplicated}`,
      `  out of order  ${each.outOfOrder}`,
      ...(each.unexpected > 0 ? [`  unexpected    ${each.unexpected}, which the outbox does not have`] : []),
      ...(each.resets > 0 ? [`  resets        ${each.resets}`] : []),
      `  latency       p50 ${p50 ?? '-'} ms, p99 ${p99 ?? '-'} ms, from the commit to the subscriber`,
    );
  }
  lines.push('', exact ? 'exact: every event, once, in order' : 'NOT EXACT');
  return `${lines.join('\n')}\n`;
}
