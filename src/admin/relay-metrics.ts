import { Gauge, Histogram, type Registry } from 'prom-client';
import type { Relay } from '../relay/relay.ts';
import { RELAY_MODES } from '../relay/stats.ts';
import type { Metrics } from './metrics.ts';

const BATCH_EVENTS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000];
const LAG_SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30];

/**
 * What the relay does and has done.
 * @returns to be called when a batch was handed on, so long after its first event was appended
 */
export function watchRelay(
  metrics: Pick<Metrics, 'watch' | 'watchTotal'>,
  registry: Registry,
  relay: Relay,
): (events: number, lagSeconds: number) => void {
  const registers = [registry];
  metrics.watch(
    'settlewire_relay_caught_up',
    '1 while connected and caught up.',
    () => Number(relay.caughtUp),
    'min',
  );
  metrics.watch(
    'settlewire_relay_asleep',
    '1 while waiting for a ring.',
    () => Number(relay.mode === 'asleep'),
    'max',
  );
  new Gauge({
    registers,
    name: 'settlewire_relay_mode',
    help: '1 for what the relay does now, 0 for the rest; deaf: polling because it has no session that listens.',
    labelNames: ['mode'],
    collect() {
      for (const mode of RELAY_MODES) this.set({ mode }, Number(relay.mode === mode));
    },
  });
  new Gauge({
    registers,
    name: 'settlewire_horizon_stall_seconds',
    help: 'How long a transaction has held back every reader, by its pid; absent while none does.',
    labelNames: ['pid', 'application'],
    aggregator: 'max',
    collect() {
      this.reset();
      for (const { pid, applicationName } of relay.stall?.holders ?? []) {
        this.set({ pid: String(pid), application: String(applicationName) }, relay.stall?.seconds ?? 0);
      }
    },
  });
  metrics.watchTotal('settlewire_relay_rings', 'Rings heard.', () => relay.stats.rings);
  metrics.watchTotal('settlewire_relay_reads', 'Reads of the outbox.', () => relay.stats.reads);
  metrics.watchTotal(
    'settlewire_relay_looks',
    'Reads that looked for writers in flight; the others read what followed without a gap.',
    () => relay.stats.looks,
  );
  metrics.watchTotal('settlewire_relay_events', 'Events read.', () => relay.stats.events);
  metrics.watchTotal(
    'settlewire_relay_listen_losses',
    'Times the session that listens was lost or could not be had.',
    () => relay.stats.listenLosses,
  );
  metrics.watchTotal(
    'settlewire_relay_key_losses',
    'Times the doorbell key was gone although its session was not.',
    () => relay.stats.keyLosses,
  );
  metrics.watchTotal(
    'settlewire_relay_reconnects',
    'Times the relay lost its database, and attempts in vain to have it again.',
    () => relay.stats.reconnects,
  );
  metrics.watch(
    'settlewire_relay_lag_seconds',
    'From append to read, last batch, by the database clock.',
    () => relay.stats.lagSeconds,
    'max',
  );
  metrics.watch(
    'settlewire_relay_poll_interval_seconds',
    'From poll to poll, last one; longer than POLL_INTERVAL_MS where polls wait in line.',
    () => relay.stats.pollIntervalMs / 1000,
    'max',
  );
  const batches = new Histogram({
    registers,
    name: 'settlewire_relay_batch_events',
    help: 'Events of a read that found any.',
    buckets: BATCH_EVENTS,
  });
  const lags = new Histogram({
    registers,
    name: 'settlewire_relay_dispatch_seconds',
    help: 'From the append of the first event of a batch until the batch was handed on to its subscribers.',
    buckets: LAG_SECONDS,
  });
  return (events, lagSeconds) => {
    batches.observe(events);
    lags.observe(lagSeconds);
  };
}
