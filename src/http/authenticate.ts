import type { Request } from 'express';
import type { Resume } from '../access/resume-token.ts';
import { type Claims, CredentialError, KeysUnavailableError, verifyAccessToken } from '../access/token.ts';
import type { Context } from './context.ts';
import { isOwnPage, isSecure } from './origin.ts';
import { Refusal } from './refusal.ts';

type CredentialContext = Pick<Context, 'config' | 'tokenRules' | 'sessionCookie'>;
type StreamCredentialContext = CredentialContext & Pick<Context, 'tickets' | 'resumeTokens'>;

/**
 * Who is asking: `Authorization: Bearer`, else the session cookie. A bad bearer token is refused even if there is a good
 * cookie: what the client said on purpose counts.
 * @throws CredentialError; Refusal unavailable if the issuer's keys cannot be had
 */
export async function authenticate(request: Request, context: CredentialContext): Promise<Claims> {
  const claims = (await authenticateBearer(request, context)) ?? readCookie(request, context);
  if (claims === undefined) throw new CredentialError('unauthenticated', 'no credential');
  return claims;
}

/** Who asks for a stream, and what their credential restricts it to. */
export interface StreamCredential {
  readonly claims: Claims;
  /** The topics that a ticket is for. */
  readonly topics?: readonly string[];
  /** The stream that is to be gone on with. */
  readonly resume?: Resume;
}

/**
 * As {@link authenticate}, and for streams alone by what a client without headers can put into the URL: `?ticket=` or `?resume=`,
 * which count for less than a bearer token and for more than a cookie.
 * @throws as {@link authenticate}
 */
export async function authenticateStream(
  request: Request,
  context: StreamCredentialContext,
): Promise<StreamCredential> {
  const ticket = request.query['ticket'] || undefined;
  const resume = request.query['resume'] || undefined;
  if (request.headers.authorization !== undefined || (ticket === undefined && resume === undefined))
    return { claims: await authenticate(request, context) };
  if (resume === undefined) {
    const { claims, topics } = context.tickets.read(text(ticket));
    return topics === null ? { claims } : { claims, topics };
  }
  if (ticket !== undefined) throw new CredentialError('unauthenticated', 'a ticket and a resume token');
  const read = context.resumeTokens.read(text(resume));
  return { claims: read.claims, resume: read };
}

/** @throws CredentialError for a parameter that comes twice */
function text(parameter: unknown): string {
  if (typeof parameter === 'string') return parameter;
  throw new CredentialError('unauthenticated', 'a credential that comes twice');
}

/**
 * @returns undefined if there is no Authorization header
 * @throws as {@link authenticate}
 */
export async function authenticateBearer(
  { headers }: Request,
  { tokenRules }: Pick<Context, 'tokenRules'>,
): Promise<Claims | undefined> {
  if (headers.authorization === undefined) return undefined;
  const token = /^Bearer +([\w-]+\.[\w-]+\.[\w-]+)$/i.exec(headers.authorization)?.[1];
  if (token === undefined)
    throw new CredentialError('unauthenticated', 'the Authorization header is not a bearer token');
  try {
    return await verifyAccessToken(token, tokenRules);
  } catch (error) {
    throw error instanceof KeysUnavailableError ? new Refusal('unavailable') : error;
  }
}

function readCookie(request: Request, { sessionCookie, config }: CredentialContext): Claims | undefined {
  const claims = sessionCookie.read(request.headers.cookie, { secure: isSecure(request) });
  if (claims !== undefined && !isOwnPage(request, config.corsOrigins))
    throw new CredentialError('unauthenticated', 'the cookie comes with the request of a foreign page');
  return claims;
}
