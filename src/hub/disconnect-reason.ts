/** Why the server ends a stream; sent as `event: disconnect` (design section 6). */
export type DisconnectReason =
  | 'draining'
  | 'token_expired'
  | 'access_revoked'
  | 'session_revoked'
  | 'slow_consumer'
  | 'max_age'
  | 'unavailable'
  | 'too_many_connections'
  | 'rate_limited';

/** Why exact replay is impossible; sent as `event: reset`. */
export type ResetReason = 'expired' | 'ahead' | 'epoch' | 'invalid' | 'identity';
