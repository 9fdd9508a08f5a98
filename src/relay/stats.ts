/** What the relay tells of itself. */
export interface RelayLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** `away`: without the database, or behind; `deaf`: polling because nobody listens. */
export const RELAY_MODES = ['asleep', 'polling', 'deaf', 'away'] as const;
export type RelayMode = (typeof RELAY_MODES)[number];

/** What the relay has done since it was made; but for the lag and the interval it never goes down. */
export interface RelayStats {
  reads: number;
  /** Reads that looked for writers in flight, in the lock table. */
  looks: number;
  events: number;
  rings: number;
  reconnects: number;
  /** Times the listening session was lost or could not be had. */
  listenLosses: number;
  /** Times the doorbell key was found to be gone although its session was not. */
  keyLosses: number;
  /** Seconds between an event's append and its read, of the last batch; no matter what this machine's clock says. */
  lagSeconds: number;
  /** Milliseconds from poll to poll, as of the last one; 0 before the first. */
  pollIntervalMs: number;
}

export function newStats(): RelayStats {
  return {
    reads: 0,
    looks: 0,
    events: 0,
    rings: 0,
    reconnects: 0,
    listenLosses: 0,
    keyLosses: 0,
    lagSeconds: 0,
    pollIntervalMs: 0,
  };
}
