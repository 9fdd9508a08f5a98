import { collectDefaultMetrics, type Registry } from 'prom-client';

/** A metric with its values, as it goes from a worker to its supervisor. */
export type MetricFamily = Awaited<ReturnType<Registry['getMetricsAsJSON']>>[number];

/** What `GET /metrics` answers. */
export interface MetricsPage {
  readonly contentType: string;
  readonly body: string;
}

/** Node's own metrics of this process. Of several workers the one whose event loop is latest counts, not the average: it is whose clients wait. */
export function collectProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry });
  for (const metric of registry.getMetricsAsArray()) {
    if (metric.aggregator === 'average') metric.aggregator = 'max';
    if (metric.name === 'process_start_time_seconds') metric.aggregator = 'min';
  }
}

/** All of a registry in the Prometheus text format. */
export async function renderRegistry(registry: Registry): Promise<MetricsPage> {
  return { contentType: registry.contentType, body: await registry.metrics() };
}
