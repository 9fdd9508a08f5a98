import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import {
  choice,
  databaseUrl,
  flag,
  functionName,
  isLoopback,
  type JwtSecret,
  jwksUrl,
  MINIMUM_SECRET_BYTES,
  origins,
  parsed,
  seconds,
  secret,
  secretsByKid,
  textOrNull,
  trustProxy,
  whole,
  workerCount,
} from './variables.ts';

type Settings = z.output<typeof settings>;
type SigningSetting = 'signingSecret' | 'signingSecretAccepted';

export type Config = DeepReadonly<
  Omit<Settings, 'jwtSecret' | 'jwtSecrets' | SigningSetting | 'host' | 'demo'>
> & {
  /** No DATABASE_URL: the service runs a Postgres of its own in `dataDir`. */
  readonly embedded: boolean;
  readonly host: string;
  readonly demo: boolean;
  /** Empty only with a JWKS. */
  readonly jwtSecrets: readonly JwtSecret[];
  /** Secrets from which our own signing keys are derived: signed with the first, accepted of all. */
  readonly signingSecrets: readonly [string, ...string[]];
};

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  constructor(readonly mistakes: readonly string[]) {
    super(mistakes.join('\n'));
  }
}

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;
type Environment = Readonly<Record<string, string | undefined>>;

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

export const settings = z.object({
  databaseUrl,
  listenDatabaseUrl: databaseUrl,
  /** A replica, for old replays. */
  replayDatabaseUrl: databaseUrl,
  dataDir: parsed((text) => text, '.data'),
  host: textOrNull,
  port: whole(0, 65_535, 8080),
  workers: workerCount,
  workerSilenceSeconds: seconds(1, 3600, 30),
  adminHost: parsed((text) => text, '127.0.0.1'),
  adminPort: whole(0, 65_535, 9090),
  adminToken: secret,
  jwtSecret: secret,
  jwtSecrets: secretsByKid,
  jwtIssuer: textOrNull,
  jwtAudience: textOrNull,
  jwksUrl,
  jwksCacheSeconds: seconds(0.1, 86_400, 300),
  jwksCooldownSeconds: seconds(0.1, 3600, 10),
  jwksTimeoutSeconds: seconds(0.1, 60, 5),
  signingSecret: secret,
  /** Tokens of our own signed with it are accepted, none is signed: for a change of the secret without downtime. */
  signingSecretAccepted: secret,
  cookieSameSite: choice(['strict', 'lax', 'none'], 'strict'),
  ticketSeconds: seconds(1, 3600, 60),
  resumeSeconds: seconds(1, 86_400, 600),
  corsOrigins: origins,
  trustProxy,
  retentionHours: whole(1, 87_600, 168, 'hours'),
  /** Set by convention on production machines; only settlewire token looks at it. */
  nodeEnv: textOrNull,
  logLevel: choice(LOG_LEVELS, 'info'),
  demo: flag,
  migrate: choice(['all', 'outbox', 'off'], 'all'),
  /** Says who may see what where the tables are not ours. */
  authorizeFunction: functionName,
  maxConnections: whole(1, 1_000_000, 10_000),
  maxConnectionsPerActor: whole(1, 1_000_000, 20),
  maxTopicsPerConnection: whole(1, 10_000, 100),
  maxConnectionAgeSeconds: seconds(1, 604_800, 3600),
  connectRatePerMinute: whole(1, 1_000_000_000, 300),
  authFailuresPerMinute: whole(1, 1_000_000_000, 60),
  sessionRatePerMinute: whole(1, 1_000_000_000, 60),
  snapshotRatePerMinute: whole(1, 1_000_000_000, 120),
  snapshotConcurrency: whole(1, 1000, 2),
  snapshotWaiting: whole(0, 1_000_000, 200),
  snapshotMaxRows: whole(1, 10_000_000, 20_000, 'rows'),
  /** Times that the kernel sends bytes again in vain before a client counts as gone; 0: as long as the kernel likes. */
  deadPeerRetries: whole(0, 20, 6),
  rateLimitEntries: whole(1, 10_000_000, 100_000),
  maxOtherConnections: whole(1, 1_000_000, 10_000),
  maxRequestsPerConnection: whole(1, 1_000_000_000, 10_000),
  maxHeaderBytes: whole(8192, 1_048_576, 16_384, 'bytes'),
  maxBodyBytes: whole(1024, 1_048_576, 16_384, 'bytes'),
  headersSeconds: seconds(0.1, 3600, 30),
  requestSeconds: seconds(0.1, 3600, 45),
  keepAliveSeconds: seconds(0.1, 3600, 65),
  subscriberBufferBytes: whole(16_384, 1_073_741_824, 262_144, 'bytes'),
  stallSeconds: seconds(0.1, 3600, 10),
  heartbeatSeconds: seconds(0.1, 300, 15),
  drainSeconds: seconds(0, 600, 5),
  replayWindowEvents: whole(0, 10_000_000, 20_000, 'events'),
  replayWindowBytes: whole(0, 17_179_869_184, 33_554_432, 'bytes'),
  replayConcurrency: whole(1, 1000, 4),
  replayPageEvents: whole(1, 100_000, 500, 'events'),
  replayCacheBytes: whole(0, 17_179_869_184, 1_048_576, 'bytes'),
  relayBatchEvents: whole(1, 100_000, 1000, 'events'),
  pollIntervalMs: whole(1, 10_000, 5, 'milliseconds'),
  maxPollIntervalMs: whole(1, 10_000, 20, 'milliseconds'),
  safetyPollMs: whole(10, 600_000, 2000, 'milliseconds'),
  relayTimeoutMs: whole(10, 600_000, 3000, 'milliseconds'),
  /** The relay polls when rings come faster, and sleeps again when events come slower. */
  wakeRingsPerSecond: whole(1, 1_000_000, 250),
  sleepEventsPerSecond: whole(0, 1_000_000, 100),
  stallAlertSeconds: seconds(0.1, 86_400, 30),
  /** Base of the jittered time after which a client reconnects. */
  retryMs: whole(1, 600_000, 2000, 'milliseconds'),
  databasePoolSize: whole(1, 1000, 8),
});

/**
 * Reads the configuration from environment variables (maxConnections is MAX_CONNECTIONS, and so on); unknown ones are
 * ignored. Without DATABASE_URL and without a key, `makeSecret` makes one; by default it lives as long as the process.
 * @throws ConfigError with one line per mistake; secrets and passwords are never in it.
 */
export function parseConfig(
  environment: Environment = process.env,
  makeSecret: (dataDir: string) => string = () => randomBytes(48).toString('base64url'),
): Config {
  const input = Object.fromEntries(
    Object.keys(settings.shape).map((key) => [key, environment[variableName(key)]] as const),
  );
  const result = settings.safeParse(input);
  if (!result.success) {
    throw new ConfigError(
      result.error.issues.map((issue) => `${variableName(String(issue.path[0]))}: ${issue.message}`),
    );
  }
  const { jwtSecret, signingSecret, signingSecretAccepted, ...values } = result.data;
  const embedded = values.databaseUrl === null;
  const keys = [...(jwtSecret === null ? [] : [{ kid: null, secret: jwtSecret }]), ...values.jwtSecrets];
  const mistakes = contradictions({ ...values, signingSecret }, keys);
  if (mistakes.length > 0) throw new ConfigError(mistakes);
  if (embedded && keys.length === 0) keys.push({ kid: null, secret: makeSecret(values.dataDir) });
  const [first = '', ...others] = [
    ...(signingSecret === null ? keys.map((key) => key.secret) : [signingSecret]),
    ...(signingSecretAccepted === null ? [] : [signingSecretAccepted]),
  ];
  return deepFreeze({
    ...values,
    embedded,
    jwtSecrets: keys,
    signingSecrets: [first, ...others],
    host: values.host ?? (embedded ? '127.0.0.1' : '0.0.0.0'),
    demo: values.demo ?? embedded,
    listenDatabaseUrl: values.listenDatabaseUrl ?? values.databaseUrl,
  });
}

/**
 * The configuration of a command that signs and checks nothing, and so needs no key.
 * @throws ConfigError, also when there is no DATABASE_URL
 */
export function parseKeylessConfig(environment: Environment = process.env): Config & { databaseUrl: string } {
  const none = 'x'.repeat(MINIMUM_SECRET_BYTES);
  const config = parseConfig({ ...environment, JWT_SECRET: none, SIGNING_SECRET: none, ADMIN_TOKEN: none });
  if (config.databaseUrl === null)
    throw new ConfigError(['DATABASE_URL: is not set; only serve runs a Postgres of its own']);
  return { ...config, databaseUrl: config.databaseUrl };
}

/** PORT alone, for a command that asks a running instance and needs no other setting. @throws ConfigError */
export function parsePort(environment: Environment = process.env): number {
  const result = settings.shape.port.safeParse(environment['PORT']);
  if (result.success) return result.data;
  throw new ConfigError(result.error.issues.map(({ message }) => `PORT: ${message}`));
}

function contradictions(
  values: Omit<Settings, 'jwtSecret' | 'signingSecretAccepted'>,
  keys: readonly JwtSecret[],
): string[] {
  const mistakes: string[] = [];
  if (values.databaseUrl !== null && keys.length === 0 && values.jwksUrl === null)
    mistakes.push(
      'JWT_SECRET: is not set; with DATABASE_URL one of JWT_SECRET, JWT_SECRETS (kid=secret,…) and JWKS_URL is needed',
    );
  if (values.jwksUrl !== null && values.signingSecret === null)
    mistakes.push(
      'SIGNING_SECRET: is not set; with JWKS_URL it is needed, to sign cookies, tickets and resume tokens with',
    );
  if (values.databaseUrl === null && values.replayDatabaseUrl !== null)
    mistakes.push('REPLAY_DATABASE_URL: is set without DATABASE_URL; the embedded Postgres has no replica');
  if (values.databaseUrl === null && values.listenDatabaseUrl !== null)
    mistakes.push(
      'LISTEN_DATABASE_URL: is set without DATABASE_URL; set both, or neither for the embedded Postgres',
    );
  if (values.headersSeconds > values.requestSeconds)
    mistakes.push(
      `HEADERS_SECONDS: ${values.headersSeconds} is more than REQUEST_SECONDS, ${values.requestSeconds}`,
    );
  if (values.resumeSeconds < 3 * values.heartbeatSeconds)
    mistakes.push(
      `RESUME_SECONDS: ${values.resumeSeconds} is less than three times HEARTBEAT_SECONDS (${values.heartbeatSeconds})`,
    );
  if (values.adminToken === null && !isLoopback(values.adminHost.replace('::1', '[::1]')))
    mistakes.push(
      `ADMIN_TOKEN: is not set; needed where others can reach the admin port (ADMIN_HOST ${values.adminHost})`,
    );
  if (values.port !== 0 && values.port === values.adminPort)
    mistakes.push(`ADMIN_PORT: ${values.adminPort} is PORT as well; they must differ`);
  return mistakes;
}

export function variableName(key: string): string {
  return key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

function deepFreeze<T extends object>(value: T): T {
  for (const inner of Object.values(value))
    if (typeof inner === 'object' && inner !== null) deepFreeze(inner);
  return Object.freeze(value);
}
