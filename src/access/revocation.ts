import { createHash } from 'node:crypto';

/** Where streams hear that the credential with this `jti` was revoked, as `outbox_token_topic()` in migrations/0005. */
export function tokenTopic(tokenId: string): string {
  return `token:${createHash('sha256').update(tokenId).digest('hex')}`;
}
