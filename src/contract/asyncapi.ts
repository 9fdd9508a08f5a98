import { cookieName } from '../access/session-cookie.ts';
import { EVENT_TYPES, type EventType } from '../outbox/catalogue.ts';
import { EXAMPLES } from './examples.ts';
import { CONTROL, EVENTS, OVERSIZE, ref, type Schema, schemaName } from './schemas.ts';

/** Control messages: the `event:` line of each, and what it is for. */
const CONTROL_MESSAGES: Readonly<Record<string, readonly [type: string, summary: string]>> = {
  Session: ['session', 'First in every stream, and again if there is something new to say. Without an id.'],
  CaughtUp: ['caught-up', 'Replay has ended, live begins.'],
  Cursor: [
    'cursor',
    "Only other people had events; its id keeps a quiet client's cursor from falling behind.",
  ],
  Reset: ['reset', 'What was missed cannot be replayed: take the snapshot again. Without an id.'],
  Disconnect: ['disconnect', 'The server is about to close, and why. Without an id.'],
};

function message(type: string, summary: string, payload: Schema, more: Schema = {}): Schema {
  return { name: type, title: type, summary, contentType: 'application/json', payload, ...more };
}

function eventMessage(type: EventType): Schema {
  const { topics, when } = EVENT_TYPES[type];
  const { id, data } = EXAMPLES[type];
  return message(
    type,
    `When ${when}. On ${topics.join(' or ')}.`,
    { oneOf: [ref(schemaName(type)), ref('Oversize')] },
    { examples: [{ name: `id ${id}, as a trigger wrote it`, payload: data }] },
  );
}

const MESSAGES: Readonly<Record<string, Schema>> = {
  ...Object.fromEntries(
    (Object.keys(EVENT_TYPES) as EventType[]).map((type) => [schemaName(type), eventMessage(type)]),
  ),
  ...Object.fromEntries(
    Object.entries(CONTROL_MESSAGES).map(([name, [type, summary]]) => [
      name,
      message(type, summary, ref(name)),
    ]),
  ),
};

const names = Object.keys(MESSAGES);

function channel(address: string, description: string, more: Schema = {}): Schema {
  const messages = Object.fromEntries(names.map((name) => [name, { $ref: `#/components/messages/${name}` }]));
  return { address, description, messages, ...more };
}

/** What is in the streams, as AsyncAPI 3.0 (https://www.asyncapi.com/docs/reference/specification/v3.0.0). */
export function asyncApi(version: string): Schema {
  const id = { parameters: { id: { description: 'A uuid.' } } };
  const channels: Record<string, Schema> = {
    events: channel('/v1/events', 'Everything that you may see, or the topics in the query.'),
    streamEvents: channel('/v1/streams/{id}/events', 'One payment stream.', id),
    escrowEvents: channel('/v1/escrows/{id}/events', 'One escrow.', id),
  };
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'settlewire',
      version,
      license: { name: 'MIT' },
      description:
        'Server-Sent Events. The name of a message is the `event:` line, its payload the `data:` line, its place in the order of all events the `id:` line. Types that are not here are published by adopters with outbox_publish().',
    },
    defaultContentType: 'application/json',
    servers: {
      this: {
        host: 'localhost:8080',
        protocol: 'http',
        security: [{ $ref: '#/components/securitySchemes/bearer' }],
      },
    },
    channels,
    operations: Object.fromEntries(
      Object.keys(channels).map((name) => [
        `receive${name[0]?.toUpperCase()}${name.slice(1)}`,
        {
          action: 'send',
          channel: { $ref: `#/channels/${name}` },
          messages: names.map((it) => ({ $ref: `#/channels/${name}/messages/${it}` })),
        },
      ]),
    ),
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
        cookie: { type: 'httpApiKey', in: 'cookie', name: cookieName(true) },
        loopbackCookie: { type: 'httpApiKey', in: 'cookie', name: cookieName(false) },
      },
      messages: MESSAGES,
      schemas: { ...EVENTS, ...CONTROL, Oversize: OVERSIZE },
    },
  };
}
