import type { Pool } from 'pg';
import type { Logger } from 'pino';
import type { Credentials } from '../access/credentials.ts';
import type { LookUpMembership } from '../access/look-up.ts';
import type { MembershipQueue } from '../access/membership-queue.ts';
import type { Metrics } from '../admin/metrics.ts';
import type { OpenStreams } from '../admin/subscriptions.ts';
import type { Config } from '../config.ts';
import type { Hub } from '../hub/hub.ts';
import type { PastPages } from '../hub/past.ts';
import type { Snapshots } from '../snapshot/snapshots.ts';
import type { ConnectionLimits } from './connection-limits.ts';
import type { RateLimits } from './rate-limits.ts';

/** What the service can do for a client at the moment. */
export type Condition = 'ready' | 'unavailable' | 'draining';

/** What the routes are wired with. */
export interface Context extends Credentials {
  readonly config: Config;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly hub: Hub;
  /** The primary. */
  readonly pool: Pool;
  readonly pages: PastPages;
  readonly lookUpMembership: LookUpMembership;
  /** The same for those who open streams, who may come in herds. */
  readonly membershipQueue: MembershipQueue;
  readonly connectionLimits: ConnectionLimits;
  readonly openStreams: OpenStreams;
  readonly rateLimits: RateLimits;
  readonly snapshots: Snapshots;
  readonly condition: () => Condition;
  /** A number from 0 up to 1. */
  readonly random: () => number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

/** The base reconnection time spread to between half and one and a half of it, in whole milliseconds. */
export function jitteredRetryMs({ config, random }: Pick<Context, 'config' | 'random'>): number {
  return Math.round(config.retryMs * (0.5 + random()));
}
