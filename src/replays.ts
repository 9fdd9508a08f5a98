import type { Pool } from 'pg';
import type { Logger } from 'pino';
import type { Config } from './config.ts';
import { createPool } from './database.ts';
import { SharedPages } from './hub/shared-pages.ts';
import { Replayer } from './outbox/replayer.ts';
import { Replica } from './outbox/replica.ts';

/** Everything that reads the past, wired together. */
export interface Replays {
  readonly replayer: Replayer;
  readonly pages: SharedPages;
  /** Undefined without REPLAY_DATABASE_URL. */
  readonly replica: Replica | undefined;
  end(): Promise<void>;
}

/**
 * @param primary the pool that is asked for what no replica gives
 * @param silenceMs as in `PoolOptions`, for the replica's pool
 */
export function createReplays(
  config: Config,
  { primary, log, silenceMs, now }: { primary: Pool; log: Logger; silenceMs: number; now: () => number },
): Replays {
  const pool =
    config.replayDatabaseUrl === null
      ? undefined
      : createPool(config.replayDatabaseUrl, {
          max: config.replayConcurrency,
          applicationName: 'settlewire replay',
          silenceMs,
          onIdleError: (error) => log.warn({ err: error }, 'an idle connection to the replica was lost'),
        });
  const replica = pool === undefined ? undefined : new Replica({ primary, pool, log, now });
  const pageBytes = Math.floor(config.subscriberBufferBytes / 2);
  const replayer = new Replayer({
    db: primary,
    replica,
    concurrency: config.replayConcurrency,
    pageEvents: config.replayPageEvents,
    pageBytes,
  });
  const pages = new SharedPages((topics, after, through) => replayer.page(topics, after, through), {
    maxBytes: config.replayCacheBytes,
    // Half of the bytes, as far as events are counted; the rest is for their frames and for pages in use.
    maxAhead: Math.floor(config.replayCacheBytes / (2 * pageBytes)),
    idle: () => replayer.idle,
  });
  return { replayer, pages, replica, end: async () => pool?.end() };
}
