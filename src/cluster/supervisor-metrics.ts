import { Counter, Gauge, Registry } from 'prom-client';
import { collectProcessMetrics } from '../admin/process-metrics.ts';
import { type Crew, EXITS } from './crew.ts';
import type { Door } from './door.ts';

const STATES = ['starting', 'ready', 'leaving'] as const;

/** What the supervisor counts itself, and the sum with what its workers count. */
export class SupervisorMetrics {
  readonly #registry = new Registry();
  readonly #crew: Crew;
  readonly #answered: Gauge;

  constructor(crew: Crew, door: Door) {
    this.#crew = crew;
    const registers = [this.#registry];
    collectProcessMetrics(this.#registry);
    new Gauge({
      registers,
      name: 'settlewire_workers',
      help: 'Workers, by what they are doing.',
      labelNames: ['state'],
      collect() {
        for (const state of STATES)
          this.set({ state }, crew.members.filter((member) => member.state === state).length);
      },
    });
    this.#answered = new Gauge({
      registers,
      name: 'settlewire_workers_answered',
      help: 'Workers whose figures are in this page.',
    });
    new Counter({
      registers,
      name: 'settlewire_worker_exits_total',
      help: 'Workers that have ended, by why.',
      labelNames: ['why'],
      collect() {
        this.reset();
        for (const why of EXITS) this.inc({ why }, crew.exits(why));
      },
    });
    new Gauge({
      registers,
      name: 'settlewire_connections_waiting',
      help: 'Connections that no worker has taken yet.',
      collect() {
        this.set(door.waiting);
      },
    });
    new Counter({
      registers,
      name: 'settlewire_connections_dropped',
      help: 'Connections closed because no worker was there, or too many waited for one.',
      collect() {
        this.reset();
        this.inc(door.dropped);
      },
    });
  }

  /** Everything that there is to say of the instance. */
  async sum(): Promise<Registry> {
    const counts = await this.#crew.count();
    this.#answered.set(counts.filter(({ answered }) => answered).length);
    const own = await this.#registry.getMetricsAsJSON();
    // What those who have gone meanwhile had counted is in the totals already.
    const members = new Set(this.#crew.members);
    const present = counts.filter(({ member }) => members.has(member));
    return this.#crew.totals.of([own, ...present.map(({ families }) => families)]);
  }
}
