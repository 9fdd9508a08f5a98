import type { ErrorRequestHandler, RequestHandler, Response } from 'express';
import { CredentialError } from '../access/token.ts';
import { TopicError } from '../access/topics.ts';

/** Every error code that a client can meet, with its status and what it means; stable (design section 6). */
const PROBLEMS = {
  unauthenticated: [401, 'Send a valid access token or session cookie.'],
  token_expired: [401, 'The credential has expired; get a new one.'],
  forbidden: [403, 'You may not see this, or it does not exist.'],
  invalid_topic: [400, 'A topic is stream:{uuid}, escrow:{uuid}, user:{uuid} or wallet:{address}.'],
  too_many_topics: [400, 'Too many topics at a time.'],
  snapshot_too_large: [400, 'The state of these topics is too large for one snapshot; name fewer topics.'],
  too_many_connections: [429, 'Too many streams are open; close one, or try again later.'],
  rate_limited: [429, 'Too many requests; try again later.'],
  invalid_cursor: [
    400,
    'A cursor is the id of an event: a whole number without sign or leading zeros, given once.',
  ],
  not_acceptable: [406, 'This resource is a text/event-stream.'],
  payload_too_large: [413, 'The request body is too large.'],
  headers_too_large: [431, 'The request line and headers are too large.'],
  request_timeout: [408, 'The request took too long to arrive.'],
  not_found: [404, 'There is no such resource.'],
  method_not_allowed: [405, 'The resource does not know this method.'],
  bad_request: [400, 'The request cannot be understood.'],
  unavailable: [503, 'The service is starting, draining or without its database; try again.'],
} as const satisfies Record<string, readonly [number, string]>;

export type ProblemCode = keyof typeof PROBLEMS;

/** An answer of `application/problem+json` (RFC 9457). */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly status: number;

  /** @param detail what is wrong with this request; never anything about other people's data */
  constructor(
    readonly code: ProblemCode,
    detail?: string,
  ) {
    super(detail ?? PROBLEMS[code][1]);
    this.status = PROBLEMS[code][0];
  }
}

function toProblem(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error;
  if (error instanceof CredentialError) return new Problem(error.code);
  if (error instanceof TopicError) return new Problem('invalid_topic', error.message);
  const status = error instanceof Error && 'status' in error ? error.status : undefined;
  if (status === 413) return new Problem('payload_too_large');
  // What Express and its parsers refuse: broken percent-encoding, a body that is not JSON.
  if (typeof status === 'number' && status >= 400 && status < 500) return new Problem('bad_request');
  return undefined;
}

/** Writes a problem. `Retry-After` in seconds comes with what passes. */
export function sendProblem(response: Response, problem: Problem, retryAfterSeconds = 1): void {
  const { status } = problem;
  if (status === 401) response.setHeader('WWW-Authenticate', 'Bearer');
  if (status === 503 || status === 429) response.setHeader('Retry-After', String(retryAfterSeconds));
  response.status(status).type('application/problem+json');
  response.setHeader('Cache-Control', 'no-store');
  response.send(problemBody(problem));
}

export function problemBody({ code, status, message }: Problem): string {
  return JSON.stringify({
    type: 'about:blank',
    title: code.replaceAll('_', ' '),
    status,
    code,
    detail: message,
  });
}

/** Answers whatever a route threw; what it cannot name is logged and answered as `unavailable`. */
export function errorHandler(log: { error(fields: object, message: string): void }): ErrorRequestHandler {
  return (error, request, response, next) => {
    const problem = toProblem(error);
    if (problem === undefined) log.error({ err: error, path: request.path }, 'request failed');
    if (response.headersSent) next(error);
    else sendProblem(response, problem ?? new Problem('unavailable'));
  };
}

export const notFound: RequestHandler = () => {
  throw new Problem('not_found');
};

/** For a path whose other methods have been routed already. */
export function only(...methods: string[]): RequestHandler {
  return (_request, response) => {
    response.setHeader('Allow', methods.join(', '));
    throw new Problem('method_not_allowed');
  };
}
