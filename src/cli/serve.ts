import cluster from 'node:cluster';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { destination, type Logger, pino } from 'pino';
import { mintAccessToken } from '../access/mint.ts';
import { Supervisor } from '../cluster/supervisor.ts';
import { work } from '../cluster/worker.ts';
import { type Config, parseConfig } from '../config.ts';
import { createPool } from '../database.ts';
import { type Market, startMarket } from '../demo/market.ts';
import { type DemoUser, seedDemo } from '../demo/seed.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../embedded/embedded-postgres.ts';
import { openServiceRole } from '../embedded/service-role.ts';
import { migrate } from '../migrate.ts';
import { Service } from '../service.ts';
import { keepGarbageYoung } from '../young-garbage.ts';
import { type Command, EXIT, readArguments } from './command.ts';
import { databaseTrouble } from './database-trouble.ts';

/** The demo's link and curl line are good for so long. */
const DEMO_TOKEN_SECONDS = 12 * 3600;
/** A terminal's Ctrl-C arrives twice below npm, once from each; only a later one means "at once". */
const SAME_SIGNAL_MS = 1000;

export const serveCommand: Command = {
  name: 'serve',
  summary: 'Run the service. Without DATABASE_URL: with a Postgres of its own, demo data and a dashboard.',
  help: `settlewire serve: runs the service until SIGTERM or SIGINT, then drains and stops. A second signal stops it at once.

Usage: settlewire serve

Without DATABASE_URL it starts a Postgres of its own (data in DATA_DIR, .data), makes a key, applies migrations, loads demo data and
lets a small market move it, and prints a dashboard link and a curl line that work.

  DATABASE_URL   postgres://user:password@host:5432/database; pending migrations are applied at start, unless MIGRATE is off
  JWT_SECRET     the secret that signs your access tokens (HS256), 32 bytes or more
  HOST, PORT     where clients connect (0.0.0.0, or 127.0.0.1 without DATABASE_URL; 8080)
  ADMIN_PORT     metrics, subscriptions, revocations (9090), on 127.0.0.1 unless ADMIN_HOST and ADMIN_TOKEN say otherwise
  WORKERS        processes that share the port (1; auto: one for each processor); SIGHUP restarts them one after the other

All settings are environment variables: docs/configuration.md has them all. Logs are JSON lines on standard error.

Exit codes: 0 stopped as asked; 1 could not start, or was stopped at once; 2 the command line is wrong.
`,
  run: async (args) => {
    readArguments('serve', { args: [...args], options: {} });
    await serve();
    return EXIT.done;
  },
};

/** Runs until SIGTERM or SIGINT, then drains and stops. */
async function serve(): Promise<void> {
  keepGarbageYoung();
  const config = parseConfig(undefined, keptSecret);
  const { worker } = cluster;
  const base = worker === undefined ? null : { worker: worker.id };
  const log = pino({ level: config.logLevel, base }, destination(2));
  if (worker !== undefined) return work({ config, log, worker });
  const running: Running = {};
  const stopped = untilSignalled(log, running);
  const starting = start(config, log, running).catch((error) => {
    throw config.databaseUrl === null ? error : databaseTrouble(error, config.databaseUrl);
  });
  try {
    await Promise.race([starting, stopped]);
    await stopped;
  } finally {
    await running.market?.stop();
    await running.service?.stop();
    // What was still starting has given up by now; what it had started is stopped below.
    await Promise.allSettled([starting]);
    await running.market?.stop();
    await running.postgres?.stop();
  }
}

/** One process that does everything, or a supervisor of several. */
type Instance = Pick<Service, 'start' | 'stop' | 'url' | 'adminUrl' | 'condition'>;

/** What has been started so far, in this order; stopped in the opposite one. */
interface Running {
  postgres?: EmbeddedPostgres;
  service?: Instance;
  market?: Pick<Market, 'stop'>;
}

async function start(config: Config, log: Logger, running: Running): Promise<void> {
  const databaseUrl = config.databaseUrl ?? (await startDatabase(config, log, running));
  if (config.migrate !== 'off') {
    const { applied } = await migrate({ connectionString: databaseUrl, set: config.migrate });
    if (applied.length > 0) log.info({ applied }, 'migrated');
  }
  const serviceUrl = config.embedded ? await openServiceRole(databaseUrl) : databaseUrl;
  const service = createInstance(config, serviceUrl, log);
  running.service = service;
  await service.start();
  log.info({ url: service.url, admin: service.adminUrl, workers: config.workers }, 'ready');
  if (config.demo && service.condition === 'ready')
    await startDemo(config, log, running, { service, databaseUrl });
}

/** One process, or with WORKERS several, which SIGHUP restarts in turn. */
function createInstance(config: Config, databaseUrl: string, log: Logger): Instance {
  if (config.workers === 1) return new Service({ config, databaseUrl, log });
  const supervisor = new Supervisor({ config, databaseUrl, log });
  process.on('SIGHUP', () => void supervisor.roll());
  return supervisor;
}

async function startDatabase(config: Config, log: Logger, running: Running): Promise<string> {
  running.postgres = await startEmbeddedPostgres({
    dataDir: config.dataDir,
    log: (line, level) => log[level](line),
  });
  return running.postgres.url;
}

async function startDemo(
  config: Config,
  log: Logger,
  running: Running,
  { service, databaseUrl }: { service: Instance; databaseUrl: string },
): Promise<void> {
  const pool = createPool(databaseUrl, { max: 4, applicationName: 'settlewire demo market' });
  const user = await seedDemo(pool);
  const market = startMarket({ pool, log });
  let ended: Promise<void> | undefined;
  running.market = {
    stop: () => {
      ended ??= market.stop().then(() => pool.end());
      return ended;
    },
  };
  process.stdout.write(banner(service.url, demoToken(config, user), databaseUrl));
}

function banner(url: string, token: string, databaseUrl: string): string {
  return `
settlewire is ready, with demo data. Stop it with Ctrl-C; the data stays.

  Dashboard  ${url}/#token=${token}

  curl       curl -N -H 'Authorization: Bearer ${token}' '${url}/v1/events'

  Database   ${databaseUrl}

`;
}

function demoToken(config: Config, { userId, walletAddress }: DemoUser): string {
  const token = mintAccessToken({ sub: userId, walletAddress, role: 'USER' }, DEMO_TOKEN_SECONDS, config);
  if (token === undefined) throw new Error('the demo has no key to sign its link with');
  return token;
}

/** A random secret that is made once per data directory, so that sessions outlive a restart. */
function keptSecret(dataDir: string): string {
  const path = join(dataDir, 'jwt-secret');
  mkdirSync(dataDir, { recursive: true });
  try {
    writeFileSync(path, randomBytes(48).toString('base64url'), { mode: 0o600, flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  return readFileSync(path, 'utf8');
}

/** Resolves at the first SIGTERM or SIGINT; a second one ends the process at once. */
function untilSignalled(log: Logger, running: Running): Promise<void> {
  return new Promise((resolve) => {
    let firstAt: number | undefined;
    const onSignal = (signal: NodeJS.Signals): void => {
      if (firstAt === undefined) {
        firstAt = performance.now();
        log.info({ signal }, 'stopping');
        resolve();
      } else if (performance.now() - firstAt > SAME_SIGNAL_MS) {
        log.warn({ signal }, 'stopping at once');
        if (running.postgres !== undefined) process.kill(running.postgres.pid, 'SIGQUIT');
        process.exit(1);
      }
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}
