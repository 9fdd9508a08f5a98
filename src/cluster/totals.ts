import { AggregatorRegistry, type Registry } from 'prom-client';
import type { MetricFamily } from '../admin/process-metrics.ts';

type Families = readonly MetricFamily[];

/**
 * The metrics of several workers as those of one. Each metric says itself how (prom-client's `aggregator`): counts add up, and of
 * what does not, the worst counts. What workers that have ended had counted stays in the sum, or each of their deaths
 * would look to Prometheus as if everything had been counted anew.
 */
export class Totals {
  #ended: Families = [];

  /** Takes in what a worker that has ended counted in its life. */
  keep(last: Families): void {
    this.#ended = familiesOf(add([this.#ended, countsOf(last)]));
  }

  /** The sum of those that are alive and those that have ended. */
  of(alive: readonly Families[]): Registry {
    return add([...alive, this.#ended]);
  }
}

/** Those metrics that only go up. */
export function countsOf(families: Families): Families {
  return families.filter(({ type }) => ['counter', 'histogram'].includes(String(type)));
}

function add(families: readonly Families[]): Registry {
  return AggregatorRegistry.aggregate([...families]);
}

/** Registries of sums hold the families themselves. */
function familiesOf(registry: Registry): Families {
  return registry.getMetricsAsArray() as MetricFamily[];
}
