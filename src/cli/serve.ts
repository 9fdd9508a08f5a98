import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import jwt from 'jsonwebtoken';
import { destination, type Logger, pino } from 'pino';
import { type Config, parseConfig } from '../config.ts';
import { createPool } from '../database.ts';
import { type Market, startMarket } from '../demo/market.ts';
import { type DemoUser, seedDemo } from '../demo/seed.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../embedded/embedded-postgres.ts';
import { migrate } from '../migrate.ts';
import { Service } from '../service.ts';

/** The demo's link and curl line are good for so long. */
const DEMO_TOKEN_SECONDS = 12 * 3600;
/** A terminal's Ctrl-C arrives twice below npm, once from each; only a later one means "at once". */
const SAME_SIGNAL_MS = 1000;

/** `settlewire serve`: runs until SIGTERM or SIGINT, then drains and stops. */
export async function serveCommand(): Promise<void> {
  const config = parseConfig(undefined, keptSecret);
  const log = pino({ level: config.logLevel, base: null }, destination(2));
  const running: Running = {};
  const stopped = untilSignalled(log, running);
  const starting = start(config, log, running);
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

/** What has been started so far, in this order; stopped in the opposite one. */
interface Running {
  postgres?: EmbeddedPostgres;
  service?: Service;
  market?: Pick<Market, 'stop'>;
}

async function start(config: Config, log: Logger, running: Running): Promise<void> {
  const databaseUrl = config.databaseUrl ?? (await startDatabase(config, log, running));
  if (config.migrate !== 'off') {
    const { applied } = await migrate({ connectionString: databaseUrl, set: config.migrate });
    if (applied.length > 0) log.info({ applied }, 'migrated');
  }
  const service = new Service({ config, databaseUrl, log });
  running.service = service;
  await service.start();
  log.info({ url: service.url, admin: service.adminUrl }, 'ready');
  if (config.demo && service.condition === 'ready')
    await startDemo(config, log, running, { service, databaseUrl });
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
  { service, databaseUrl }: { service: Service; databaseUrl: string },
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

function demoToken(
  { jwtSecrets, jwtIssuer, jwtAudience }: Config,
  { userId, walletAddress }: DemoUser,
): string {
  const [key] = jwtSecrets;
  return jwt.sign({ sub: userId, walletAddress, role: 'USER', type: 'access' }, key.secret, {
    algorithm: 'HS256',
    expiresIn: DEMO_TOKEN_SECONDS,
    ...(key.kid === null ? {} : { keyid: key.kid }),
    ...(jwtIssuer === null ? {} : { issuer: jwtIssuer }),
    ...(jwtAudience === null ? {} : { audience: jwtAudience }),
  });
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
