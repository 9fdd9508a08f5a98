import type { ErrorRequestHandler, Request, Response } from 'express';
import { CredentialError } from '../access/token.ts';
import type { DisconnectReason } from '../hub/disconnect-reason.ts';
import { streamHeaders } from '../sse/connection.ts';
import { disconnectFrame } from '../sse/frame.ts';
import { wantsStream } from './accept.ts';
import { type Context, jitteredRetryMs } from './context.ts';
import { Problem, sendProblem } from './errors.ts';

export type RefusalReason = Extract<
  DisconnectReason,
  'draining' | 'unavailable' | 'too_many_connections' | 'rate_limited'
>;

/** Not now: the same request may be served later. */
export class Refusal extends Error {
  override readonly name = 'Refusal';

  /** @param waitMs before that, coming back is in vain */
  constructor(
    readonly reason: RefusalReason,
    readonly waitMs = 0,
  ) {
    super(reason);
  }
}

/**
 * Answers with a refusal. An `EventSource` never comes back from a 429 or 503, so whoever asks for a stream gets one that ends
 * at once and says when to come again. Times are jittered: what was refused together does not come back together.
 */
export function sendRefusal(
  context: Context,
  request: Request,
  response: Response,
  { reason, waitMs }: Refusal,
): void {
  const retryMs = Math.ceil(waitMs) + jitteredRetryMs(context);
  context.metrics.refused(reason);
  if (wantsStream(request)) {
    response.writeHead(200, streamHeaders());
    response.end(request.method === 'HEAD' ? undefined : disconnectFrame(reason, retryMs).bytes);
  } else {
    const code = reason === 'draining' ? 'unavailable' : reason;
    context.metrics.problem(code);
    sendProblem(response, new Problem(code), Math.ceil(retryMs / 1000));
  }
}

/**
 * Answers what was refused for the moment, wherever it was thrown, and counts credentials that were refused for good; leaves
 * all other errors to the next handler.
 */
export function refusalHandler(context: Context): ErrorRequestHandler {
  return async (error: unknown, request, response, next) => {
    const outcome =
      error instanceof CredentialError ? await counted(context, request, response, error) : error;
    if (outcome instanceof Refusal && !response.headersSent) sendRefusal(context, request, response, outcome);
    else next(outcome);
  };
}

/** The error, or the refusal that there have been too many of them. */
function counted(
  { rateLimits }: Context,
  request: Request,
  response: Response,
  error: CredentialError,
): Promise<unknown> {
  return rateLimits.authFailed(request, response).then(
    () => error,
    (refusal: unknown) => refusal,
  );
}
