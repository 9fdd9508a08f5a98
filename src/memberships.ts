import type { Pool } from 'pg';
import { lookUpMemberships } from './access/actor.ts';
import { alone } from './access/look-up.ts';
import { MembershipQueue } from './access/membership-queue.ts';
import { suppliedMemberships } from './access/supplied-membership.ts';
import type { Metrics } from './admin/metrics.ts';
import type { Config } from './config.ts';
import { DATABASE_SILENCE_MS } from './database.ts';
import type { Context } from './http/context.ts';

/** A herd of all that a process takes has been looked up by then. */
const MOST_WAIT_MS = 30_000;

/**
 * The look-ups of who may see what: one by one, and in herds.
 * @param clock milliseconds of a clock that never goes back
 */
export function createMemberships(
  { authorizeFunction, databasePoolSize }: Pick<Config, 'authorizeFunction' | 'databasePoolSize'>,
  pool: Pool,
  metrics: Pick<Metrics, 'watch' | 'watchTotal'>,
  clock: () => number,
): Pick<Context, 'lookUpMembership' | 'membershipQueue'> {
  const lookUp = authorizeFunction === null ? lookUpMemberships : suppliedMemberships(authorizeFunction);
  const membershipQueue = new MembershipQueue({
    db: pool,
    lookUp,
    // The other half is for snapshots, replays and sessions.
    concurrency: Math.floor(databasePoolSize / 2),
    patienceMs: DATABASE_SILENCE_MS,
    mostWaitMs: MOST_WAIT_MS,
    clock,
  });
  metrics.watchTotal(
    'settlewire_membership_lookups',
    'Streams opened or refused for which the database was asked what they may see.',
    () => membershipQueue.lookUps,
  );
  metrics.watchTotal(
    'settlewire_membership_statements',
    'Statements in which it was asked, of one or of many at once.',
    () => membershipQueue.statements,
  );
  metrics.watch(
    'settlewire_membership_waiting',
    'Streams that wait for such a statement to begin.',
    () => membershipQueue.waiting,
  );
  return { lookUpMembership: alone(lookUp), membershipQueue };
}
