import type { OutboxEvent } from './event.ts';

/** What an `access:*` event changes for the actor whose topic it is on. */
export type AccessChange =
  | {
      readonly kind: 'granted' | 'revoked';
      /** The topic gained or lost. */
      readonly topic: string;
    }
  /** The event names no topic, so nobody can tell what it takes: the actor's sessions end, and their access is looked up anew. */
  | { readonly kind: 'unclear' }
  | CredentialsRevoked;

/** Credentials are worth nothing any more, see migrations/0005. Nobody is given the event. */
export interface CredentialsRevoked {
  readonly kind: 'credentials-revoked';
  /** Those with an `iat` at or before it, in seconds since 1970, or without one. */
  readonly issuedBefore: number;
}

/** A credential, as a revocation sees it. */
export interface Revocable {
  /** Topics on which its revocation is announced. They are heard, and delivered only as far as they are the actor's own. */
  readonly topics: readonly string[];
  /** Seconds since 1970; null if it does not say, so that every revocation on its topics concerns it. */
  readonly issuedAt: number | null;
}

/** On this topic stands what concerns everybody; nobody can subscribe to it. */
export const EVERYBODY = 'access:everybody';

/**
 * Never throws: an event that stopped the relay would stop it for ever, for everybody.
 * @returns undefined if the event changes nobody's access
 */
export function accessChange({ type, data }: Pick<OutboxEvent, 'type' | 'data'>): AccessChange | undefined {
  if (type === 'access:credentials_revoked') {
    const issuedBefore = fieldOf(data, 'issuedBefore');
    return {
      kind: 'credentials-revoked',
      issuedBefore: typeof issuedBefore === 'number' ? issuedBefore : Number.POSITIVE_INFINITY,
    };
  }
  if (type !== 'access:granted' && type !== 'access:revoked') return undefined;
  const topic = fieldOf(data, 'topic');
  if (typeof topic !== 'string') return { kind: 'unclear' };
  return { kind: type === 'access:granted' ? 'granted' : 'revoked', topic };
}

/** Whether who the actor is may have changed, so that their sessions end and what they may see is looked up anew. */
export function endsSessions(change: AccessChange): boolean {
  return change.kind === 'unclear' || (change.kind === 'revoked' && change.topic.startsWith('user:'));
}

function fieldOf(data: string, key: string): unknown {
  try {
    return JSON.parse(data)[key];
  } catch {
    return undefined;
  }
}
