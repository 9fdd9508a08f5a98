import type { Service } from '../../src/service.ts';
import { metric } from './metrics.ts';
import { waitFor } from './wait-for.ts';

/** Waits until the relay holds the doorbell key and is caught up. */
export async function untilAsleep(service: Service, timeoutMs = 10_000): Promise<void> {
  await waitFor(async () => (await metric(service, 'settlewire_relay_asleep')) === 1, {
    what: 'the relay to fall asleep',
    timeoutMs,
  });
}

/** Waits until the relay has read the outbox so many more times. */
export async function untilReads(service: Service, more: number): Promise<void> {
  const before = await metric(service, 'settlewire_relay_reads');
  await waitFor(async () => (await metric(service, 'settlewire_relay_reads')) >= before + more, {
    what: `${more} more reads`,
  });
}
