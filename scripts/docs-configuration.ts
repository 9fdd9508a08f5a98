/*
 * docs/configuration.md, made from the schema that the service reads its environment with: `npm run docs:configuration -- --write`.
 * Defaults and bounds are asked of the schema itself; what a variable is for is said here, and the compiler names one that is not.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { settings, variableName } from '../src/config.ts';

type Setting = keyof typeof settings.shape;

/** Headings, and what stands below each. Every variable is under one. */
const SECTIONS = {
  'Where it runs': {
    databaseUrl:
      'Postgres, as the owner of the outbox or a member of the role `settlewire_service`. Unset: a Postgres of its own',
    listenDatabaseUrl:
      'the same database, directly, if `DATABASE_URL` goes through a pooler. Default: `DATABASE_URL`',
    dataDir: 'data, password and key of the Postgres of its own',
    host: 'address for clients. Default: 0.0.0.0; without `DATABASE_URL` 127.0.0.1',
    port: 'port for clients; 0: any that is free',
    workers:
      'processes that share the port, see [operations.md](operations.md#workers); `auto`: one for each processor',
    workerSilenceSeconds: 'a worker that says nothing for so long is killed, and replaced',
    adminHost: 'address of the admin port; beyond this machine it needs `ADMIN_TOKEN`',
    adminPort: 'port of metrics, subscriptions and revocations',
    adminToken: 'bearer token of the admin port, 32 bytes or more',
    migrate:
      "`all`: apply pending migrations at start; `outbox`: only the outbox's own; `off`: refuse to start while some are missing",
    demo: 'load demo data and let a market move it. Default: true without `DATABASE_URL`',
    trustProxy:
      'which proxies to believe when they say from where a client comes: how many, or their addresses and subnets',
    corsOrigins: 'origins whose pages may use the API, comma-separated',
    logLevel: 'least level that is logged, as JSON lines on standard error',
    nodeEnv: '`production` makes `settlewire token` refuse to sign; nothing else looks at it',
  },
  'Who may come in': {
    jwtSecret: 'HS256 secret for tokens without `kid`, 32 bytes or more',
    jwtSecrets: 'HS256 secrets by `kid`: `kid=secret,…`',
    jwtIssuer: 'the `iss` that tokens must have',
    jwtAudience: 'the `aud` that tokens must have',
    jwksUrl: 'RS256 and ES256 keys of your issuer; https, or http on this machine. Needs `SIGNING_SECRET`',
    jwksCacheSeconds: 'how long these keys are taken for fresh',
    jwksCooldownSeconds: 'least time between two attempts to fetch them',
    jwksTimeoutSeconds: 'longest time for one attempt',
    signingSecret:
      'what cookies, tickets and resume tokens are signed with, 32 bytes or more. Default: the JWT secrets',
    signingSecretAccepted: 'what they may be signed with as well, during a change',
    cookieSameSite: '`SameSite` of the session cookie',
    ticketSeconds: 'how long a ticket opens streams',
    resumeSeconds: 'how long a resume token is good; at least three `HEARTBEAT_SECONDS`',
    authorizeFunction:
      'your SQL function `schema.function` that says who may see what, see [adopting.md](adopting.md)',
    authFailuresPerMinute: 'refused credentials per address before 429',
    connectRatePerMinute: 'connects per actor before 429',
    sessionRatePerMinute: 'sessions and tickets per actor before 429',
    snapshotRatePerMinute: 'snapshots per actor before 429',
    rateLimitEntries: 'addresses and actors that the rate limits remember',
  },
  Streams: {
    maxConnections: 'open streams of an instance',
    maxConnectionsPerActor: 'open streams of an actor in a process: in each of `WORKERS`',
    maxTopicsPerConnection: 'topics that a stream may name; a feed is not bounded',
    maxConnectionAgeSeconds: 'a stream ends after so long, a tenth sooner or later',
    heartbeatSeconds: 'time between two signs of life',
    retryMs: 'when clients come back: half to one and a half of it',
    subscriberBufferBytes: 'what may wait for one client before it is replayed instead',
    stallSeconds: 'a client that takes nothing for so long is cut off',
    deadPeerRetries:
      'so often the kernel sends again in vain before a client counts as gone; 0: as often as the kernel likes',
    drainSeconds: 'time over which a stop spreads its disconnects',
  },
  'Other requests': {
    snapshotConcurrency: 'snapshots that are read at once; at least one for each of `WORKERS`',
    snapshotWaiting: 'snapshots that may wait for that',
    snapshotMaxRows: 'rows of one snapshot',
    maxOtherConnections: 'connections that carry no stream',
    maxRequestsPerConnection: 'requests on one connection',
    maxHeaderBytes: 'request line and headers together',
    maxBodyBytes: "a request's body",
    headersSeconds: 'time for the headers to come',
    requestSeconds: 'time for a request and its answer',
    keepAliveSeconds: 'how long a connection is kept without a request',
  },
  'Replay and relay': {
    retentionHours: 'how long events are kept; the partition that they are in goes as a whole',
    replayWindowEvents: 'newest events kept in memory for those who come back',
    replayWindowBytes: 'and the bytes of their payloads at most',
    replayConcurrency: 'replays that read from the database at once; at least one for each of `WORKERS`',
    replayPageEvents: 'events that one such read takes',
    replayDatabaseUrl: 'a streaming standby that replays are read from as far as it has them',
    replayCacheBytes: 'pages kept for others who replay the same',
    relayBatchEvents: 'events of one read of the relay',
    pollIntervalMs:
      'time between two reads while awake; where a read takes long, the pause after it is as long, up to this',
    maxPollIntervalMs:
      'the same at most: reads that stand in line, for a processor or a disk, for more than an eighth of it come less often, up to this; not above 50, or a relay may fall asleep beside writers who queue behind a slow disk',
    safetyPollMs: 'longest time without a read while asleep',
    relayTimeoutMs:
      'time in which a connection of the relay must stand, a query of it be answered and a ring of its own arrive',
    wakeRingsPerSecond: 'the relay wakes when rings come faster',
    sleepEventsPerSecond: 'and falls asleep again when events come slower',
    stallAlertSeconds:
      'a transaction that holds back all readers for so long is logged and shown in the metrics',
    databasePoolSize:
      'connections of a process for connects, replays, snapshots and partitions; its relay has two more',
  },
} satisfies Readonly<Record<string, Partial<Record<Setting, string>>>>;

type Sections = typeof SECTIONS;
type Documented = { [Title in keyof Sections]: keyof Sections[Title] }[keyof Sections];
/** The compiler names the variable that no section has. */
export const everyVariableIsDocumented: [Exclude<Setting, Documented>] extends [never]
  ? true
  : Exclude<Setting, Documented> = true;

const PATH = fileURLToPath(new URL('../docs/configuration.md', import.meta.url));

/** What the schema says about a value that cannot be right. */
function allowed(name: Setting): string {
  const { error } = settings.shape[name].safeParse('\u0000');
  const message = error?.issues[0]?.message ?? '';
  const [, bounds] =
    /is not (?:a |an )?((?:whole )?number from .*|one of .*|true or false.*)$/.exec(message) ?? [];
  return bounds ?? '';
}

function fallback(name: Setting): string {
  const value = settings.shape[name].parse(undefined);
  if (value === null || (Array.isArray(value) && value.length === 0)) return '';
  return `\`${value}\``;
}

/** The whole page. */
export function configurationPage(): string {
  const sections = Object.entries(SECTIONS).map(([title, variables]) => {
    const rows = Object.entries(variables).map(([name, meaning]) => {
      const setting = name as Setting;
      return `| \`${variableName(setting)}\` | ${fallback(setting)} | ${allowed(setting)} | ${meaning} |`;
    });
    return `## ${title}\n\n| variable | default | allowed | meaning |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
  });
  return `# Configuration

All of it is environment variables, read once at start. A bad value stops the start, with a line for each mistake; an empty one counts as not set.
Secrets and passwords are in no message and no log. What happens at each bound, and by which metric one sees it, is in [operations.md](operations.md#limits).
What is said of an instance holds for all of its \`WORKERS\` together, each of which gets its part; everything else holds for each of them.

This page is made from the schema: \`npm run docs:configuration -- --write\`; CI compares.

${sections.join('\n')}`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--write')) await writeFile(PATH, configurationPage());
  else if ((await readFile(PATH, 'utf8')) !== configurationPage()) {
    console.log('docs/configuration.md is not as the schema has it: npm run docs:configuration -- --write');
    process.exitCode = 1;
  }
}
