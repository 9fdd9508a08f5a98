import { code, type DataOf, decimal, type Field, oneOf, orNull, time, topic, uuid } from './field.ts';

/** What can be subscribed to. */
export type TopicKind = 'stream' | 'escrow' | 'user' | 'wallet';

interface EventShape {
  /** The topics on which the event appears. */
  readonly topics: readonly `${TopicKind}:{${string}}`[];
  /** What has happened, in words that follow "when". */
  readonly when: string;
  /** The fields of its data, all of them always present, in the order sent. */
  readonly data: Readonly<Record<string, Field<unknown>>>;
}

const streamStatus = oneOf('draft', 'active', 'paused', 'completed', 'ended', 'withdrawn', 'cancelled');
const escrowStatus = oneOf('pending', 'active', 'completed', 'cancelled', 'disputed', 'expired');
const disputeStatus = oneOf('open', 'under_review', 'resolved');

/**
 * Every event that the domain's triggers (migrations/0011 and 0012) write, design section 5: closed, so that what leaves
 * the system can be read here. The client's types, the documents and the contracts are made of it. Events that adopters
 * publish with outbox_publish() are theirs and not listed.
 */
export const EVENT_TYPES = {
  'stream:updated': {
    topics: ['stream:{streamId}'],
    when: 'created; status, rate, total, end or last settlement changed',
    data: {
      streamId: uuid,
      status: streamStatus,
      previousStatus: orNull(streamStatus),
      ratePerSecond: decimal,
      totalAmount: decimal,
      lastSettledAt: time,
      endTime: time,
      updatedAt: time,
    },
  },
  'settle:finished': {
    topics: ['stream:{streamId}'],
    when: 'a settlement succeeded or failed',
    data: {
      settlementId: uuid,
      streamId: uuid,
      status: oneOf('succeeded', 'failed'),
      amount: decimal,
      asset: code,
      txHash: orNull(code),
      failureCode: orNull(code),
      finishedAt: time,
    },
  },
  'escrow:status_changed': {
    topics: ['escrow:{escrowId}'],
    when: 'its status changed',
    data: {
      escrowId: uuid,
      previousStatus: escrowStatus,
      status: escrowStatus,
      txHash: orNull(code),
      updatedAt: time,
    },
  },
  'escrow:milestone_released': {
    topics: ['escrow:{escrowId}'],
    when: 'a milestone was released',
    data: {
      escrowId: uuid,
      conditionId: uuid,
      amount: orNull(decimal),
      asset: code,
      releasedAmount: decimal,
      txHash: orNull(code),
      releasedAt: time,
    },
  },
  'escrow:dispute_filed': {
    topics: ['escrow:{escrowId}'],
    when: 'a dispute was filed',
    data: {
      escrowId: uuid,
      disputeId: uuid,
      filedByRole: orNull(oneOf('buyer', 'seller', 'arbitrator', 'creator')),
      status: disputeStatus,
    },
  },
  'escrow:dispute_resolved': {
    topics: ['escrow:{escrowId}'],
    when: 'a dispute was resolved',
    data: {
      escrowId: uuid,
      disputeId: uuid,
      outcome: orNull(oneOf('released_to_seller', 'refunded_to_buyer', 'split')),
      sellerPercent: orNull(decimal),
      buyerPercent: orNull(decimal),
      resolvedAt: time,
    },
  },
  'escrow:party_joined': {
    topics: ['escrow:{escrowId}'],
    when: 'a party accepted',
    data: {
      escrowId: uuid,
      partyId: uuid,
      role: oneOf('buyer', 'seller', 'arbitrator'),
      status: oneOf('accepted'),
      respondedAt: time,
    },
  },
  'notification:new': {
    topics: ['user:{userId}'],
    when: 'a notification was written',
    data: {
      id: uuid,
      escrowId: orNull(uuid),
      eventType: code,
      status: oneOf('pending', 'sent', 'failed'),
      createdAt: time,
      // From here on: what of the notification's payload may travel.
      streamId: orNull(uuid),
      conditionId: orNull(uuid),
      disputeId: orNull(uuid),
      settlementId: orNull(uuid),
      amount: orNull(decimal),
      asset: orNull(code),
      txHash: orNull(code),
    },
  },
  'notification:read': {
    topics: ['user:{userId}'],
    when: 'a notification was read',
    data: { id: uuid, readAt: time },
  },
  'access:granted': {
    topics: ['user:{id}', 'wallet:{address}'],
    when: 'you gained a topic',
    data: { topic },
  },
  // A topic of their own (user:{id}) means: every session of theirs ends.
  'access:revoked': {
    topics: ['user:{id}', 'wallet:{address}'],
    when: 'you lost a topic',
    data: { topic },
  },
} as const satisfies Record<string, EventShape>;

export type EventType = keyof typeof EVENT_TYPES;

/** The data of an event of this type. */
export type EventData<Type extends EventType> = DataOf<(typeof EVENT_TYPES)[Type]['data']>;

/** The keys of an event's data, in the order sent. */
export function keysOf(type: EventType): string[] {
  return Object.keys(EVENT_TYPES[type].data);
}
