import { ServiceProcess } from '../../../test/support/service-process.ts';
import { grantService } from '../../../test/support/service-role.ts';

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
  const service = await ServiceProcess.start(databaseUrl, {
    HEARTBEAT_SECONDS: '15',
    MAX_CONNECTIONS_PER_ACTOR: '10000',
    CONNECT_RATE_PER_MINUTE: '1000000',
    ...environment,
  });
  process.on('exit', () => service.signal('SIGKILL'));
  return service;
}

export async function relayMetrics(service: ServiceProcess): Promise<RelayMetrics> {
  const response = await fetch(`http://127.0.0.1:${service.environment['ADMIN_PORT']}/metrics`);
  const text = await response.text();
  const value = (name: string): number => {
    const found = new RegExp(`^settlewire_relay_${name} (\\S+)$`, 'm').exec(text)?.[1];
    if (found === undefined) throw new Error(`no metric settlewire_relay_${name}`);
    return Number(found);
  };
  return {
    asleep: value('asleep') === 1,
    rings: value('rings'),
    reads: value('reads'),
    events: value('events'),
  };
}
