import { ServiceProcess } from '../../../test/support/service-process.ts';
import { asService, grantService } from '../../../test/support/service-role.ts';

/** What /metrics says of the relay. */
export interface RelayMetrics {
  readonly asleep: boolean;
  readonly rings: number;
  readonly reads: number;
  readonly events: number;
}

/** settlewire as its own process, with the settings it comes with and room for the benchmark's clients; gone when we are gone. */
export async function startBenchService(
  databaseUrl: string,
  environment: Record<string, string> = {},
): Promise<ServiceProcess> {
  await grantService(databaseUrl);
  const service = await ServiceProcess.create(
    {
      HEARTBEAT_SECONDS: '15',
      MAX_CONNECTIONS_PER_ACTOR: '10000',
      CONNECT_RATE_PER_MINUTE: '1000000',
      ...environment,
      DATABASE_URL: asService(databaseUrl),
    },
    { ownSession: true },
  );
  process.on('exit', () => service.signal('SIGKILL'));
  await service.start();
  return service;
}

/** A value of /metrics. */
export async function metricOf(service: ServiceProcess, name: string): Promise<number> {
  return valueIn(await metricsText(service), name);
}

export async function relayMetrics(service: ServiceProcess): Promise<RelayMetrics> {
  const text = await metricsText(service);
  const value = (name: string): number => valueIn(text, `settlewire_relay_${name}`);
  return {
    asleep: value('asleep') === 1,
    rings: value('rings'),
    reads: value('reads'),
    events: value('events'),
  };
}

async function metricsText(service: ServiceProcess): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${service.environment['ADMIN_PORT']}/metrics`);
  return response.text();
}

function valueIn(text: string, name: string): number {
  const found = new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1];
  if (found === undefined) throw new Error(`no metric ${name}`);
  return Number(found);
}
