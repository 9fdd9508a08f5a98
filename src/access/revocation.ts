import { createHash } from 'node:crypto';
import type { Pool } from 'pg';
import type { CredentialsRevoked } from '../outbox/access-change.ts';

/** Where streams hear that the credential with this `jti` was revoked, as `outbox_token_topic()` in migrations/0005. */
export function tokenTopic(tokenId: string): string {
  return `token:${createHash('sha256').update(tokenId).digest('hex')}`;
}

/** Which credentials to revoke. */
export type Revocation = (
  | { readonly sub: string; readonly issuedBefore?: Date | undefined }
  | { readonly jti: string }
) & {
  /** When the last of them expires; without it the revocation is kept for ever. */
  readonly expiresAt?: Date | undefined;
};

/** A revocation that is in the database. */
export interface StoredRevocation {
  readonly topic: string;
  readonly change: CredentialsRevoked;
  /** The event by which instances end the streams concerned. */
  readonly eventId: number;
}

interface Row {
  topic: string;
  issued_before: number;
  event_id: number;
}

/**
 * Revokes, and commits: from then on no instance takes the credentials any more. Of a sub the revocations of every name that
 * speaks for the same person.
 * @throws what pg throws
 */
export async function storeRevocation(pool: Pool, revocation: Revocation): Promise<StoredRevocation[]> {
  const values =
    'sub' in revocation
      ? [revocation.sub, null, revocation.issuedBefore?.toISOString() ?? null]
      : [null, revocation.jti, null];
  const stored = await pool.query<{ topic: string }>(
    `select outbox_revoke($1, $2, $3::timestamptz, coalesce($4::timestamptz, 'infinity')) as topic`,
    [...values, revocation.expiresAt?.toISOString() ?? null],
  );
  // The event has its id only since the commit.
  const { rows } = await pool.query<Row>(
    `select topic, extract(epoch from issued_before)::float8 as issued_before, event_id
       from outbox_revocations where topic = any ($1)`,
    [stored.rows.map(({ topic }) => topic)],
  );
  return rows.map(({ topic, issued_before, event_id }) => ({
    topic,
    change: { kind: 'credentials-revoked', issuedBefore: issued_before },
    eventId: event_id,
  }));
}
