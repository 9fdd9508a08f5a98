import type { Service } from '../../src/service.ts';

/** The value of a metric on a service's admin port; `name` with labels as Prometheus writes them. 0 if it is not there. */
export async function metric(service: Pick<Service, 'adminUrl'>, name: string): Promise<number> {
  const text = await (await fetch(`${service.adminUrl}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return Number(line?.slice(name.length + 1) ?? 0);
}
