/** What can be subscribed to. */
export type TopicKind = 'stream' | 'escrow' | 'user' | 'wallet';

interface EventShape {
  /** Kinds of topic on which the event appears. */
  readonly topicKinds: readonly TopicKind[];
  /** The keys of its data, all of them always present (null where there is nothing to say), in the order sent. */
  readonly keys: readonly string[];
}

/**
 * Every event that the domain's triggers (migrations/0011 and 0012) write, design section 5: closed, so that what leaves
 * the system can be read here. Events that adopters publish with outbox_publish() are theirs and not listed.
 */
export const EVENT_TYPES = {
  'stream:updated': {
    topicKinds: ['stream'],
    keys: [
      'streamId',
      'status',
      'previousStatus',
      'ratePerSecond',
      'totalAmount',
      'lastSettledAt',
      'endTime',
      'updatedAt',
    ],
  },
  'settle:finished': {
    topicKinds: ['stream'],
    keys: ['settlementId', 'streamId', 'status', 'amount', 'asset', 'txHash', 'failureCode', 'finishedAt'],
  },
  'escrow:status_changed': {
    topicKinds: ['escrow'],
    keys: ['escrowId', 'previousStatus', 'status', 'txHash', 'updatedAt'],
  },
  'escrow:milestone_released': {
    topicKinds: ['escrow'],
    keys: ['escrowId', 'conditionId', 'amount', 'asset', 'releasedAmount', 'txHash', 'releasedAt'],
  },
  'escrow:dispute_filed': {
    topicKinds: ['escrow'],
    keys: ['escrowId', 'disputeId', 'filedByRole', 'status'],
  },
  'escrow:dispute_resolved': {
    topicKinds: ['escrow'],
    keys: ['escrowId', 'disputeId', 'outcome', 'sellerPercent', 'buyerPercent', 'resolvedAt'],
  },
  'escrow:party_joined': {
    topicKinds: ['escrow'],
    keys: ['escrowId', 'partyId', 'role', 'status', 'respondedAt'],
  },
  'notification:new': {
    topicKinds: ['user'],
    keys: [
      'id',
      'escrowId',
      'eventType',
      'status',
      'createdAt',
      // From here on: what of the notification's payload may travel.
      'streamId',
      'conditionId',
      'disputeId',
      'settlementId',
      'amount',
      'asset',
      'txHash',
    ],
  },
  'notification:read': {
    topicKinds: ['user'],
    keys: ['id', 'readAt'],
  },
  'access:granted': {
    topicKinds: ['user', 'wallet'],
    keys: ['topic'],
  },
  // A topic of their own (user:{id}) means: every session of theirs ends.
  'access:revoked': {
    topicKinds: ['user', 'wallet'],
    keys: ['topic'],
  },
} as const satisfies Record<string, EventShape>;

export type EventType = keyof typeof EVENT_TYPES;
