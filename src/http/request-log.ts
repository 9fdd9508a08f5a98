import { randomBytes } from 'node:crypto';
import type { RequestHandler, Response } from 'express';

const HEADER = 'X-Request-Id';
/** What a proxy before us may call a request; anything else it would be unsafe to repeat. */
const GIVEN = /^[\w.-]{1,64}$/;
const LONGEST_PATH = 200;

/** Where lines go, by their level. */
export interface RequestLogger {
  info(fields: object, message: string): void;
  debug(fields: object, message: string): void;
}

/**
 * Gives each request an id, its proxy's if that gave one, which is in the answer and in every line about it; and writes a line when it
 * has been answered. The query is left out: there are tickets and resume tokens in it.
 */
export function requestLog(log: RequestLogger): RequestHandler {
  return (request, response, next) => {
    const given = request.get(HEADER);
    const requestId = given !== undefined && GIVEN.test(given) ? given : randomBytes(8).toString('hex');
    const { method, path } = request;
    const startedAt = performance.now();
    response.setHeader(HEADER, requestId);
    response.once('finish', () => {
      const level = path.startsWith('/v1/') ? 'info' : 'debug';
      const ms = Math.round(performance.now() - startedAt);
      log[level](
        { requestId, method, path: path.slice(0, LONGEST_PATH), status: response.statusCode, ms },
        'answered',
      );
    });
    next();
  };
}

/** By which the log knows this request. */
export function requestIdOf(response: Response): string {
  return String(response.getHeader(HEADER) ?? '');
}
