import type { EventData } from '../outbox/catalogue.ts';

/* What a snapshot holds: the fields that events carry, and nothing else. Types alone, for the client's sake. */

/** A stream as it is: what `stream:updated` says of it, and its latest finished settlements, newest first. */
export interface StreamState {
  readonly streamId: string;
  readonly status: EventData<'stream:updated'>['status'];
  readonly ratePerSecond: string;
  readonly totalAmount: string;
  readonly lastSettledAt: string | null;
  readonly endTime: string | null;
  readonly updatedAt: string | null;
  readonly settlements: readonly SettlementState[];
}

/** What `settle:finished` says. */
export interface SettlementState {
  readonly settlementId: string;
  readonly streamId: string;
  readonly status: 'pending' | 'succeeded' | 'failed';
  readonly amount: string;
  readonly asset: string;
  readonly txHash: string | null;
  readonly failureCode: string | null;
  readonly finishedAt: string | null;
}

/** An escrow as it is, in the words of the `escrow:*` events. */
export interface EscrowState {
  readonly escrowId: string;
  readonly status: EventData<'escrow:status_changed'>['status'];
  readonly amount: string;
  readonly releasedAmount: string;
  readonly asset: string;
  readonly txHash: string | null;
  readonly updatedAt: string | null;
  readonly parties: readonly PartyState[];
  /** Those released. */
  readonly milestones: readonly MilestoneState[];
  readonly dispute: DisputeState | null;
}

export interface PartyState {
  readonly partyId: string;
  readonly role: EventData<'escrow:party_joined'>['role'];
  readonly status: 'pending' | 'accepted' | 'rejected';
  readonly respondedAt: string | null;
}

export interface MilestoneState {
  readonly conditionId: string;
  readonly amount: string | null;
  readonly asset: string;
  readonly txHash: string | null;
  readonly releasedAt: string | null;
}

export interface DisputeState {
  readonly disputeId: string;
  readonly filedByRole: string | null;
  readonly status: 'open' | 'under_review' | 'resolved';
  readonly outcome: 'released_to_seller' | 'refunded_to_buyer' | 'split' | null;
  readonly sellerPercent: string | null;
  readonly buyerPercent: string | null;
  readonly resolvedAt: string | null;
}

/** What `notification:new` and `notification:read` say of it, less the details of the payload. */
export interface NotificationState {
  readonly id: string;
  readonly escrowId: string | null;
  readonly eventType: string;
  readonly status: 'pending' | 'sent' | 'failed';
  readonly createdAt: string | null;
  readonly readAt: string | null;
}

export interface UserState {
  readonly notifications: readonly NotificationState[];
  readonly escrows: readonly EscrowState[];
}

export interface WalletState {
  readonly streams: readonly StreamState[];
}

/** What a topic is about, as it stands; null if there is no such stream or escrow. */
export type TopicState = StreamState | EscrowState | UserState | WalletState | null;
