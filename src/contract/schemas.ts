import { PROBLEMS } from '../http/problems.ts';
import type { DisconnectReason, ResetReason } from '../hub/disconnect-reason.ts';
import { EVENT_TYPES, type EventType } from '../outbox/catalogue.ts';
import { code, decimal, type Field, oneOf, orNull, time, uuid } from '../outbox/field.ts';

/** A JSON Schema (2020-12), as OpenAPI 3.1 has it and AsyncAPI 3.0 can. */
export type Schema = Readonly<Record<string, unknown>>;

type Fields = Readonly<Record<string, Field<unknown>>>;

/** An object with just these keys, all of them there. */
export function object(properties: Readonly<Record<string, Schema>>, more: Schema = {}): Schema {
  return {
    type: 'object',
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
    ...more,
  };
}

export const array = (items: Schema): Schema => ({ type: 'array', items });
export const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });

function fields(of: Fields, more: Readonly<Record<string, Schema>> = {}): Schema {
  return object({
    ...Object.fromEntries(Object.entries(of).map(([key, { schema }]) => [key, { ...schema }])),
    ...more,
  });
}

function without(of: Fields, ...keys: readonly string[]): Fields {
  return Object.fromEntries(Object.entries(of).filter(([key]) => !keys.includes(key)));
}

/** `stream:updated` has a schema called StreamUpdated. */
export function schemaName(type: EventType): string {
  return type.replaceAll(/(?:^|[:_])([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** What each reason means; the compiler sees that none is forgotten. */
export const DISCONNECTS: Readonly<Record<DisconnectReason, string>> = {
  draining: 'the instance stops; come back, to this one or another',
  token_expired: 'the credential has ended; get another',
  access_revoked:
    'the last topic that was asked for by name is no longer yours; coming back is answered with 403',
  session_revoked: 'the person was deactivated, or their role or wallet changed; sign in again',
  slow_consumer: 'the client did not take its bytes',
  max_age: 'connections end after a while; come back',
  unavailable: 'the database is away, or the service cannot go on from where it was; come back',
  too_many_connections: 'too many streams are open',
  rate_limited: 'too many connects; come back after retryAfterMs',
};

export const RESETS: Readonly<Record<ResetReason, string>> = {
  expired: 'retention has removed what came after the cursor',
  ahead: 'no event has had this id yet',
  epoch: 'the id belongs to a history that has ended',
  invalid: 'the header was no cursor',
  identity: 'who you are has changed since the cursor',
};

const reasons = (of: Readonly<Record<string, string>>): Schema => ({
  type: 'string',
  enum: Object.keys(of),
  description: Object.entries(of)
    .map(([reason, meaning]) => `${reason}: ${meaning}.`)
    .join('\n'),
});

export const cursor: Schema = { type: 'integer', minimum: 0, description: 'The id of an event.' };
export const wholeMs: Schema = { type: 'integer', minimum: 0, description: 'Milliseconds.' };
const at: Schema = { type: 'string', format: 'date-time' };
const stream = without(EVENT_TYPES['stream:updated'].data, 'previousStatus');
const escrow = without(EVENT_TYPES['escrow:status_changed'].data, 'previousStatus');
const milestone = without(EVENT_TYPES['escrow:milestone_released'].data, 'escrowId', 'releasedAmount');
const filed = without(EVENT_TYPES['escrow:dispute_filed'].data, 'escrowId');
const resolved = without(EVENT_TYPES['escrow:dispute_resolved'].data, 'escrowId');
const notification = EVENT_TYPES['notification:new'].data;

/** Data of control messages: they are no events and are in no catalogue. */
export const CONTROL: Readonly<Record<string, Schema>> = {
  Session: object({
    cursor,
    epoch: uuid.schema as unknown as Schema,
    topics: { ...array({ type: 'string' }), maxItems: 100, description: 'At most 100; ["*"] for all.' },
    heartbeatSeconds: { type: 'number', exclusiveMinimum: 0 },
    resumeToken: { type: 'string', description: 'For `?resume=`.' },
    resumeExpiresAt: at,
    expiresAt: { ...at, description: 'When the credential ends, and the stream with it.' },
  }),
  CaughtUp: object({ cursor }),
  Cursor: object({ cursor }),
  Reset: object({
    reason: reasons(RESETS),
    requested: { type: ['integer', 'null'] },
    oldest: cursor,
    cursor,
  }),
  Disconnect: object({ reason: reasons(DISCONNECTS), retryAfterMs: wholeMs }),
};

/** Data of events, by the name of the schema. */
export const EVENTS: Readonly<Record<string, Schema>> = Object.fromEntries(
  (Object.keys(EVENT_TYPES) as EventType[]).map((type) => [schemaName(type), fields(EVENT_TYPES[type].data)]),
);

/** Any event that would be longer than 16 KiB. */
export const OVERSIZE: Schema = object({ oversize: { const: true }, bytes: { type: 'integer' } });

/** What `GET /v1/snapshot` holds of a topic: the fields of its events, and nothing else. */
export const STATES: Readonly<Record<string, Schema>> = {
  StreamState: fields(stream, { settlements: { ...array(ref('SettlementState')), maxItems: 20 } }),
  SettlementState: fields({
    ...EVENT_TYPES['settle:finished'].data,
    status: oneOf('pending', 'succeeded', 'failed'),
  }),
  EscrowState: fields(
    { ...escrow, amount: decimal, releasedAmount: decimal, asset: code },
    {
      parties: array(
        fields({
          partyId: uuid,
          role: EVENT_TYPES['escrow:party_joined'].data.role,
          status: oneOf('pending', 'accepted', 'rejected'),
          respondedAt: time,
        }),
      ),
      milestones: array(fields(milestone)),
      dispute: {
        oneOf: [{ type: 'null' }, fields({ ...filed, ...resolved })],
      },
    },
  ),
  NotificationState: fields({
    id: notification.id,
    escrowId: orNull(uuid),
    eventType: notification.eventType,
    status: notification.status,
    createdAt: time,
    readAt: time,
  }),
  UserState: object({ notifications: array(ref('NotificationState')), escrows: array(ref('EscrowState')) }),
  WalletState: object({ streams: array(ref('StreamState')) }),
};

export const PROBLEM: Schema = object({
  type: { const: 'about:blank' },
  title: { type: 'string' },
  status: { type: 'integer' },
  code: {
    type: 'string',
    enum: Object.keys(PROBLEMS),
    description: Object.entries(PROBLEMS)
      .map(([name, [status, meaning]]) => `${name} (${status}): ${meaning}`)
      .join('\n'),
  },
  detail: { type: 'string', description: 'For people.' },
});
