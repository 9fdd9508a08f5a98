import { pino } from 'pino';
import { parseConfig } from '../../src/config.ts';
import { Service, type ServiceOptions } from '../../src/service.ts';
import { asService } from './service-role.ts';
import { JWT_SECRET } from './tokens.ts';

/**
 * A service on a database that exists, as the service's role whatever the URL says, on free ports, ready; logs nothing. `environment` as in the
 * configuration reference; heartbeats and reconnection times are short, and nobody comes too often, unless it says otherwise.
 */
export async function startService(
  databaseUrl: string,
  environment: Record<string, string> = {},
  options: Partial<Pick<ServiceOptions, 'now' | 'random' | 'log' | 'clock'>> = {},
): Promise<Service> {
  const service = makeService(databaseUrl, environment, options);
  await service.start();
  return service;
}

/** As {@link startService}, not started. */
export function makeService(
  databaseUrl: string,
  environment: Record<string, string> = {},
  options: Partial<Pick<ServiceOptions, 'now' | 'random' | 'log' | 'clock'>> = {},
): Service {
  const { LISTEN_DATABASE_URL: listenUrl, ...settings } = environment;
  const serviceUrl = asService(databaseUrl);
  const config = parseConfig({
    DATABASE_URL: serviceUrl,
    ...(listenUrl === undefined ? {} : { LISTEN_DATABASE_URL: asService(listenUrl) }),
    JWT_SECRET,
    HOST: '127.0.0.1',
    PORT: '0',
    ADMIN_PORT: '0',
    DRAIN_SECONDS: '0',
    HEARTBEAT_SECONDS: '0.2',
    RETRY_MS: '50',
    AUTH_FAILURES_PER_MINUTE: '1000000',
    CONNECT_RATE_PER_MINUTE: '1000000',
    SESSION_RATE_PER_MINUTE: '1000000',
    SNAPSHOT_RATE_PER_MINUTE: '1000000',
    ...settings,
  });
  return new Service({ config, databaseUrl: serviceUrl, log: pino({ level: 'silent' }), ...options });
}
