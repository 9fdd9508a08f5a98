import type { Request } from 'express';
import { isLoopback } from '../variables.ts';

/** Browsers drop Secure cookies that come over plain http, so only http to a loopback name may do without. */
export function isSecure(request: Request): boolean {
  return request.secure || !isLoopback(request.host ?? '');
}

/**
 * Whether a page of our own or of CORS_ORIGINS has made the request, or no page at all. A cookie counts only then: the browser
 * sends it for whoever makes the request, and what a foreign page cannot read (CORS) would still take up the user's connections.
 *
 * `Origin` comes with every request that a page's script makes across origins. A page may ask without it, through an image or a
 * script element, but not without `Sec-Fetch-Site`, which browsers send to https and loopback.
 */
export function isOwnPage(request: Request, corsOrigins: readonly string[]): boolean {
  const { origin, 'sec-fetch-site': site } = request.headers;
  if (origin === undefined) return site === undefined || site === 'same-origin' || site === 'none';
  const own = `${isSecure(request) ? 'https' : 'http'}://${request.host}`;
  return corsOrigins.includes(origin) || (URL.canParse(own) && new URL(own).origin === origin);
}
