import type { ErrorRequestHandler, RequestHandler, Response } from 'express';
import { CredentialError } from '../access/token.ts';
import { TopicError } from '../access/topics.ts';
import { PROBLEMS, type ProblemCode } from './problems.ts';
import { requestIdOf } from './request-log.ts';

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

/**
 * Answers whatever a route threw; what it cannot name is logged and answered as `unavailable`.
 * @param onProblem called for each answer
 */
export function errorHandler(
  log: { error(fields: object, message: string): void },
  onProblem: (code: ProblemCode) => void = () => {},
): ErrorRequestHandler {
  return (error, request, response, next) => {
    const known = toProblem(error);
    if (known === undefined)
      log.error({ err: error, path: request.path, requestId: requestIdOf(response) }, 'request failed');
    if (response.headersSent) return next(error);
    const problem = known ?? new Problem('unavailable');
    onProblem(problem.code);
    sendProblem(response, problem);
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
