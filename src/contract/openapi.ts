import { cookieName } from '../access/session-cookie.ts';
import type { ProblemCode } from '../http/problems.ts';
import { anywhere, CREDENTIAL, NAMED, problems, STREAM, text } from './problem-answers.ts';
import { array, cursor, object, PROBLEM, ref, type Schema, STATES } from './schemas.ts';

const json = (schema: Schema): Schema => ({ 'application/json': { schema } });
const epoch: Schema = { type: 'string', format: 'uuid', description: 'Which history ids belong to.' };

const TOPIC: Schema = {
  name: 'topic',
  in: 'query',
  description: 'What to follow; may be there many times. Without it, everything that you may see.',
  schema: {
    ...array({ type: 'string', pattern: '^(stream|escrow|user|wallet):[A-Za-z0-9_.-]{1,128}$' }),
    maxItems: 100,
  },
  style: 'form',
  explode: true,
};
const CURSORS: readonly Schema[] = [
  {
    name: 'Last-Event-ID',
    in: 'header',
    description:
      'The id of the last event that you have. Wins over the query. What is no cursor is answered with a reset.',
    schema: { type: 'string' },
  },
  {
    name: 'lastEventId',
    in: 'query',
    description: 'The same, for clients that cannot send the header.',
    schema: { type: 'string', pattern: '^(0|[1-9][0-9]{0,14})?$' },
  },
];
const ID: Schema = { name: 'id', in: 'path', required: true, schema: { type: 'string' } };

function stream(operationId: string, summary: string, parameters: readonly Schema[]): Schema {
  return {
    operationId,
    summary,
    description:
      'A stream of Server-Sent Events; what is in it is in /asyncapi.json. What passes (429, 503) is answered in the stream, as a `disconnect`, if `Accept` names `text/event-stream`.',
    parameters: [...parameters, ...CURSORS],
    security: [{ bearer: [] }, { cookie: [] }, { loopbackCookie: [] }, { ticket: [] }, { resume: [] }],
    responses: {
      200: {
        description: 'The stream. It begins with `session` and does not end by itself.',
        headers: {
          'Last-Event-ID': text('The cursor that it starts from.'),
          'Cache-Control': text('`no-store, no-transform`.'),
          'X-Accel-Buffering': text('`no`.'),
        },
        content: { 'text/event-stream': { schema: { type: 'string' } } },
      },
      ...problems(...STREAM),
    },
  };
}

function answer(
  operationId: string,
  summary: string,
  schema: Schema,
  codes: readonly ProblemCode[],
  more: Schema = {},
): Schema {
  return {
    operationId,
    summary,
    responses: { 200: { description: 'As asked.', content: json(schema) }, ...problems(...codes) },
    ...more,
  };
}

const OPEN = { security: [] };
const SET_COOKIE = { headers: { 'Set-Cookie': text(`\`${cookieName(true)}\`, HttpOnly.`) } };
const session = object({
  userId: { type: ['string', 'null'], format: 'uuid' },
  walletAddress: { type: ['string', 'null'] },
  role: { type: ['string', 'null'] },
  expiresAt: { type: 'string', format: 'date-time' },
});
const condition = (...words: string[]): Schema => object({ status: { type: 'string', enum: words } });
const document = (operationId: string, summary: string): Schema =>
  answer(operationId, summary, { type: 'object' }, [], OPEN);

const PATHS: Readonly<Record<string, Schema>> = {
  '/v1/events': { get: stream('follow', 'Everything that you may see, or these topics', [TOPIC]) },
  '/v1/streams/{id}/events': { get: stream('followStream', 'One payment stream', [ID]) },
  '/v1/escrows/{id}/events': { get: stream('followEscrow', 'One escrow', [ID]) },
  '/v1/snapshot': {
    get: answer(
      'snapshot',
      'The present state, and the cursor to subscribe from',
      object({ cursor, epoch, topics: { type: 'object', additionalProperties: ref('TopicState') } }),
      [...CREDENTIAL, ...NAMED, 'snapshot_too_large'],
      {
        parameters: [
          { ...TOPIC, description: 'Whose state; without it, that of your own `user:` and `wallet:`.' },
        ],
      },
    ),
  },
  '/v1/cursor': {
    get: answer('cursor', 'How far events have come', object({ cursor, oldest: cursor, epoch }), CREDENTIAL),
  },
  '/v1/session': {
    post: {
      operationId: 'openSession',
      summary: 'A bearer token becomes a cookie, for a browser’s own EventSource',
      security: [{ bearer: [] }],
      responses: {
        200: { description: 'The cookie is set.', ...SET_COOKIE, content: json(session) },
        ...problems(...CREDENTIAL, 'forbidden'),
      },
    },
    delete: {
      operationId: 'closeSession',
      summary: 'The end of the cookie',
      ...OPEN,
      responses: { 204: { description: 'It has ended.', ...SET_COOKIE }, ...problems() },
    },
  },
  '/v1/tickets': {
    post: answer(
      'openTicket',
      'A bearer token becomes a ticket, for clients that can send neither headers nor our cookie',
      object({ ticket: { type: 'string' }, expiresAt: { type: 'string', format: 'date-time' } }),
      [...CREDENTIAL, ...NAMED],
      {
        security: [{ bearer: [] }],
        requestBody: {
          description: 'What the ticket is for; without it, everything that you may see.',
          content: json({
            type: 'object',
            properties: { topics: { ...array({ type: 'string' }), minItems: 1 } },
            additionalProperties: false,
          }),
        },
      },
    ),
  },
  '/healthz': { get: answer('healthz', 'Whether the process is alive', condition('alive'), [], OPEN) },
  '/readyz': {
    get: {
      operationId: 'readyz',
      summary: 'Whether to send clients here',
      ...OPEN,
      responses: {
        200: { description: 'Ready.', content: json(condition('ready')) },
        503: { description: 'Not now.', content: json(condition('unavailable', 'draining')) },
      },
    },
  },
  '/openapi.json': { get: document('openapi', 'This document') },
  '/asyncapi.json': { get: document('asyncapi', 'What is in the streams') },
};

/** Every request may bring an id, and every answer has one. */
function traced(methods: Schema): Schema {
  const REQUEST_ID = { 'X-Request-Id': { $ref: '#/components/headers/RequestId' } };
  const answered = Object.entries(methods as Record<string, Record<string, Record<string, Schema>>>).map(
    ([method, { responses = {}, ...operation }]) => [
      method,
      {
        ...operation,
        responses: Object.fromEntries(
          Object.entries(responses).map(([status, { headers, ...answer }]) => [
            status,
            { ...answer, headers: { ...(headers as Schema), ...REQUEST_ID } },
          ]),
        ),
      },
    ],
  );
  return { parameters: [{ $ref: '#/components/parameters/RequestId' }], ...Object.fromEntries(answered) };
}

/** The HTTP side of the contract, as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1). */
export function openApi(version: string): Schema {
  return {
    openapi: '3.1.1',
    info: {
      title: 'settlewire',
      version,
      license: { name: 'MIT', identifier: 'MIT' },
      description:
        'Payment-stream, settlement and escrow changes as they are committed. HEAD is answered like GET. Any other method gets `method_not_allowed`, any other path `not_found`.',
    },
    servers: [{ url: '/' }],
    security: [{ bearer: [] }, { cookie: [] }, { loopbackCookie: [] }],
    paths: Object.fromEntries(Object.entries(PATHS).map(([path, methods]) => [path, traced(methods)])),
    components: {
      securitySchemes: {
        bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
        cookie: { type: 'apiKey', in: 'cookie', name: cookieName(true) },
        loopbackCookie: { type: 'apiKey', in: 'cookie', name: cookieName(false) },
        ticket: {
          type: 'apiKey',
          in: 'query',
          name: 'ticket',
          description: 'From `POST /v1/tickets`; for streams.',
        },
        resume: {
          type: 'apiKey',
          in: 'query',
          name: 'resume',
          description: '`resumeToken` of `session`, to come back to the same topics.',
        },
      },
      headers: {
        RetryAfter: { description: 'Seconds.', schema: { type: 'integer', minimum: 1 } },
        RequestId: text('As in the logs: the one that you sent, or a new one.'),
      },
      parameters: {
        RequestId: {
          name: 'X-Request-Id',
          in: 'header',
          description: 'Is logged and sent back, if it looks like an id.',
          schema: { type: 'string' },
        },
      },
      responses: {
        NotFound: anywhere('not_found'),
        MethodNotAllowed: anywhere('method_not_allowed', { headers: { Allow: text('What it knows.') } }),
      },
      schemas: {
        ...STATES,
        TopicState: {
          oneOf: [
            { type: 'null' },
            ...['StreamState', 'EscrowState', 'UserState', 'WalletState'].map((name) => ref(name)),
          ],
        },
        Problem: PROBLEM,
      },
    },
  };
}
