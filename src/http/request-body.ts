import type { RequestHandler } from 'express';
import { Problem } from './errors.ts';

/**
 * Refuses a body that says it is too large before any of it is read, and drops the bodies of requests that need none, so that an
 * unread one cannot hide that its client has gone. One of unknown length may go on for ever: its connection ends with the answer.
 */
export function requestBodies(maxBytes: number): RequestHandler {
  return (request, response, next) => {
    const endless = request.headers['transfer-encoding'] !== undefined;
    const tooLarge = Number(request.headers['content-length'] ?? 0) > maxBytes;
    if (endless || tooLarge) response.setHeader('Connection', 'close');
    if (tooLarge) throw new Problem('payload_too_large', `A body has ${maxBytes} bytes at most.`);
    if (request.method !== 'POST') request.resume();
    next();
  };
}
