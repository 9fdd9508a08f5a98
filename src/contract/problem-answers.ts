import { PROBLEMS, type ProblemCode } from '../http/problems.ts';
import { ref, type Schema } from './schemas.ts';

export const text = (description: string): Schema => ({ description, schema: { type: 'string' } });

/** Whatever is asked: what can be wrong with a request as such. */
const ANY: readonly ProblemCode[] = [
  'bad_request',
  'request_timeout',
  'payload_too_large',
  'headers_too_large',
];
export const CREDENTIAL: readonly ProblemCode[] = [
  'unauthenticated',
  'token_expired',
  'rate_limited',
  'unavailable',
];
export const NAMED: readonly ProblemCode[] = ['forbidden', 'invalid_topic', 'too_many_topics'];
export const STREAM: readonly ProblemCode[] = [
  ...CREDENTIAL,
  ...NAMED,
  'invalid_cursor',
  'not_acceptable',
  'too_many_connections',
];

const HEADERS: Readonly<Record<number, Schema>> = {
  401: { 'WWW-Authenticate': text('`Bearer`.') },
  429: { 'Retry-After': { $ref: '#/components/headers/RetryAfter' } },
  503: { 'Retry-After': { $ref: '#/components/headers/RetryAfter' } },
};

/** The answers to what goes wrong: one for each status, with the codes that it may have. */
export function problems(...codes: readonly ProblemCode[]): Record<string, Schema> {
  const byStatus = new Map<number, ProblemCode[]>();
  for (const code of new Set([...codes, ...ANY])) {
    const [status] = PROBLEMS[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, these]) => [
      String(status),
      {
        description: these.map((code) => `\`${code}\`: ${PROBLEMS[code][1]}`).join('\n\n'),
        ...(HEADERS[status] && { headers: HEADERS[status] }),
        content: {
          'application/problem+json': {
            schema: { allOf: [ref('Problem'), { properties: { code: { enum: these } } }] },
          },
        },
      },
    ]),
  );
}

/** An answer that belongs to no path of its own. */
export function anywhere(code: ProblemCode, headers: Schema = {}): Schema {
  return { ...problems(code)[PROBLEMS[code][0]], ...headers };
}
