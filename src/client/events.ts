import type { ProblemCode } from '../http/problems.ts';
import type { DisconnectReason, ResetReason } from '../hub/disconnect-reason.ts';
import type { EventData, EventType } from '../outbox/catalogue.ts';
import type { TopicState } from '../snapshot/state.ts';

export type {
  EscrowState,
  NotificationState,
  StreamState,
  UserState,
  WalletState,
} from '../snapshot/state.ts';
export type { DisconnectReason, EventData, EventType, ProblemCode, ResetReason, TopicState };

/** Events of your own, published with `outbox_publish()`: their data by type. */
export type CustomEvents = Record<`${string}:${string}`, unknown>;

/** An event of this type. */
export interface EventOf<Type extends string, Data> {
  /** Its place in the order of all events; grows. */
  readonly id: number;
  readonly type: Type;
  readonly data: Data;
}

/** Every event of the catalogue, and every custom one that was declared: one union, told apart by `type`. */
export type LiveEvent<Custom = Record<never, never>> =
  | { [Type in EventType]: EventOf<Type, EventData<Type>> }[EventType]
  | { [Type in keyof Custom & string]: EventOf<Type, Custom[Type]> }[keyof Custom & string];

/** What the server says at the beginning of a stream, and again when it has a newer token. */
export interface Session {
  readonly cursor: number;
  readonly epoch: string;
  /** At most 100 of the stream's topics. */
  readonly topics: readonly string[];
  readonly heartbeatSeconds: number;
  /** When the credential ends, ISO 8601. */
  readonly expiresAt: string;
  /** With which a stream comes back without another credential; the client sees to that. */
  readonly resumeToken: string;
  readonly resumeExpiresAt: string;
}

/** What was missed cannot be replayed exactly: take the state again. The stream goes on from `cursor`. */
export interface Reset {
  readonly reason: ResetReason;
  readonly requested: number | null;
  readonly oldest: number;
  readonly cursor: number;
}

/** An event that was too big to travel: fetch what it was about. */
export interface Oversize {
  readonly id: number;
  readonly type: string;
  readonly bytes: number;
}

/**
 * Why a connection ended, was refused or is closed. Besides what the server says: `network`, there was no answer or it broke
 * off; `silent`, nothing came for 2.5 heartbeats; `ended`, without a word; `not_a_stream`, something in between answered;
 * `no_credential`, the application had none; `credential_failed`, its function threw; `http_502` and its like, from a proxy;
 * `closed`, by the application.
 */
export type Reason =
  | DisconnectReason
  | ProblemCode
  | 'network'
  | 'silent'
  | 'ended'
  | 'not_a_stream'
  | 'no_credential'
  | 'credential_failed'
  | `http_${number}`
  | 'closed';

export interface Status {
  /**
   * `connecting`: a request is under way; `replaying`: what was missed is coming; `live`; `waiting`: until the next
   * attempt; `closed`: for good.
   */
  readonly state: 'connecting' | 'replaying' | 'live' | 'waiting' | 'closed';
  /** Why the last connection ended, until the next one is live. */
  readonly reason?: Reason;
  /** While waiting: for how long, in milliseconds. */
  readonly retryInMs?: number;
}

/** The present state of topics, and the cursor to subscribe from. */
export interface Snapshot {
  readonly cursor: number;
  readonly epoch: string;
  readonly topics: Readonly<Record<string, TopicState>>;
}

/** What can be listened for. */
export type Listeners<Custom = Record<never, never>> = {
  [Type in EventType]: EventOf<Type, EventData<Type>>;
} & { [Type in keyof Custom & string]: EventOf<Type, Custom[Type]> } & {
  /** Every event, of whatever type. Those of types that were not declared come too. */
  event: LiveEvent<Custom>;
  status: Status;
  session: Session;
  reset: Reset;
  oversize: Oversize;
  /** Replay has ended, live begins. */
  'caught-up': { readonly cursor: number };
};
