import { setTimeout as delay } from 'node:timers/promises';
import type { RequestHandler } from 'express';
import type { Pool } from 'pg';
import { z } from 'zod';
import { type Revocation, type StoredRevocation, storeRevocation } from '../access/revocation.ts';
import { isKey } from '../access/topics.ts';
import { Problem } from '../http/errors.ts';
import type { Hub } from '../hub/hub.ts';

/** Longest time in milliseconds to wait until the relay has come to the revocation's event. */
const RELAY_WAIT_MS = 2000;
const LOOK_MS = 5;

const time = z.iso
  .datetime({ offset: true, error: 'is no time such as 2026-11-22T10:00:00Z' })
  .transform((text) => new Date(text))
  .refine((date) => date.getTime() >= 0, 'is before 1970')
  .optional();

const revocation = z
  .strictObject({
    sub: z
      .string()
      .refine((sub) => sub === '*' || isKey(sub), 'is neither a user id, a wallet address, nor *')
      .optional(),
    jti: z
      .string()
      .min(1, 'is empty')
      .max(1024, 'has more than 1024 characters')
      .refine((jti) => !/[\0\p{Surrogate}]/u.test(jti), 'has characters that no text can have')
      .optional(),
    issuedBefore: time,
    expiresAt: time,
  })
  .transform(({ sub, jti, issuedBefore, expiresAt }, context): Revocation => {
    if (sub !== undefined && jti === undefined) return { sub, issuedBefore, expiresAt };
    if (jti !== undefined && sub === undefined && issuedBefore === undefined) return { jti, expiresAt };
    context.addIssue({
      code: 'custom',
      message: 'name either a sub, with issuedBefore if need be, or a jti',
    });
    return z.NEVER;
  });

/**
 * `POST /v1/revocations`: 200 when it is committed and in force here, for connects that were under way as well; 202 when it is
 * committed and the relay, held back by a writer in flight, has yet to come to its event.
 * @param apply ends what it concerns and returns whether it is in force
 */
export function revocationsRoute(
  pool: Pool,
  apply: (stored: readonly StoredRevocation[]) => Promise<boolean>,
): RequestHandler {
  return async (request, response) => {
    const parsed = revocation.safeParse(request.body);
    if (!parsed.success) throw new Problem('bad_request', mistakes(parsed.error));
    const stored = await storeRevocation(pool, parsed.data);
    const inForce = await apply(stored);
    response.status(inForce ? 200 : 202);
    response.setHeader('Cache-Control', 'no-store');
    response.json({ eventId: Math.max(0, ...stored.map((each) => each.eventId)) });
  };
}

/**
 * Ends the streams of this process that revocations concern: those that are open at once, those being opened when the relay has
 * come to the events.
 * @returns false if it has yet to
 */
export async function applyRevocations(hub: Hub, stored: readonly StoredRevocation[]): Promise<boolean> {
  for (const { topic, change } of stored) hub.revoke(topic, change);
  const eventId = Math.max(0, ...stored.map((each) => each.eventId));
  const patience = performance.now() + RELAY_WAIT_MS;
  while (hub.cursor < eventId && performance.now() < patience) await delay(LOOK_MS);
  return hub.cursor >= eventId;
}

function mistakes({ issues }: z.ZodError): string {
  return issues.map(({ path, message }) => [...path, message].join(' ')).join('; ');
}
