import { setTimeout as delay } from 'node:timers/promises';
import type { Subscriber } from './subscriber.ts';

/**
 * Sends subscribers away one after the other, evenly over a time; resolves when the last has been told.
 * @param random a number from 0 up to 1
 */
export async function drain(
  subscribers: readonly Subscriber[],
  spreadMs: number,
  random: () => number,
): Promise<void> {
  const startedAt = performance.now();
  for (const [index, subscriber] of subscribers.entries()) {
    const dueMs = (spreadMs * (index + random())) / subscribers.length;
    const waitMs = dueMs - (performance.now() - startedAt);
    if (waitMs > 1) await delay(waitMs);
    subscriber.end('draining');
  }
}
