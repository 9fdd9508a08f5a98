import type { OutboxEvent } from './event.ts';

/** What an `access:*` event changes for the actor whose topic it is on. */
export type AccessChange =
  | {
      readonly kind: 'granted' | 'revoked';
      /** The topic gained or lost. */
      readonly topic: string;
    }
  /** The event names no topic, so nobody can tell what it takes: the actor's sessions end, and their access is looked up anew. */
  | { readonly kind: 'unclear' };

/**
 * Never throws: an event that stopped the relay would stop it for ever, for everybody.
 * @returns undefined if the event changes nobody's access
 */
export function accessChange({ type, data }: Pick<OutboxEvent, 'type' | 'data'>): AccessChange | undefined {
  if (type !== 'access:granted' && type !== 'access:revoked') return undefined;
  const topic = topicOf(data);
  if (topic === undefined) return { kind: 'unclear' };
  return { kind: type === 'access:granted' ? 'granted' : 'revoked', topic };
}

function topicOf(data: string): string | undefined {
  try {
    const { topic }: { topic?: unknown } = JSON.parse(data);
    return typeof topic === 'string' ? topic : undefined;
  } catch {
    return undefined;
  }
}
