import type { Client } from 'pg';
import { type Finding, fail, ok, warn } from './finding.ts';

/** Server versions that the tests run on. */
const OLDEST = 15;
const NEWEST = 18;

/** The newest version may be newer than ours: that is no failure. */
export function gradeVersion(number: number, text: string): Finding {
  const major = Math.floor(number / 10_000);
  if (major < OLDEST)
    return fail('version', `PostgreSQL ${text}`, `PostgreSQL ${OLDEST} or later is needed: upgrade it`);
  if (major > NEWEST)
    return warn('version', `PostgreSQL ${text}`, `tested with ${OLDEST} to ${NEWEST}: run settlewire verify`);
  return ok('version', `PostgreSQL ${text}`);
}

/** Both clocks are read in steps, ours in those of a millisecond, and NTP keeps them no closer than this. */
const AGREES_MS = 10;

/**
 * @param skewMs this machine's clock less the database's
 * @param uncertaintyMs half the time that asking took
 */
export function gradeClock(skewMs: number, uncertaintyMs: number): Finding {
  const surely = Math.max(0, Math.abs(skewMs) - uncertaintyMs);
  const says = `this machine's clock is ${Math.abs(skewMs / 1000).toFixed(3)} s ${skewMs < 0 ? 'behind' : 'ahead of'} the database's`;
  const advice = 'set both by NTP (chrony, systemd-timesyncd)';
  if (surely > 5000)
    return fail(
      'clock',
      `${says}: tokens made just now are refused, or ones that have expired are taken`,
      advice,
    );
  if (surely > 1000) return warn('clock', says, advice);
  return ok('clock', surely < AGREES_MS ? "agrees with the database's" : says);
}

/** @param usage part of the queue that is full, from 0 to 1 */
export function gradeNotifyQueue(usage: number): Finding {
  const says = `${(usage * 100).toFixed(1)} % full`;
  const advice =
    "when it is full, commits that NOTIFY fail; a session that has said LISTEN and sits in a transaction keeps it: select pid, application_name, xact_start from pg_stat_activity where state = 'idle in transaction' order by xact_start";
  if (usage > 0.5) return fail('notify queue', says, advice);
  if (usage > 0.05) return warn('notify queue', says, advice);
  return ok('notify queue', says);
}

/** What one instance is made of. */
export interface InstanceSize {
  readonly workers: number;
  readonly poolSize: number;
}

/** Whether there is room for an instance: each worker is a relay's two connections and a pool, and their supervisor has one. */
export function gradeRoom(used: number, usable: number, { workers, poolSize }: InstanceSize): Finding {
  const free = usable - used;
  const needed = workers === 1 ? 2 + poolSize : workers * (2 + poolSize) + 1;
  const made =
    workers === 1 ? '2 and DATABASE_POOL_SIZE' : `${workers} WORKERS, each 2 and DATABASE_POOL_SIZE, and 1`;
  const says = `${used} of ${usable} in use; an instance takes ${needed} (${made})`;
  const advice = 'raise max_connections, lower DATABASE_POOL_SIZE, or put a pooler before the applications';
  if (free < needed) return fail('connections', says, advice);
  if (free < 2 * needed)
    return warn('connections', `${says}: no room for a second one, as in a rolling restart`, advice);
  return ok('connections', says);
}

/** What the server says of itself; `now` in milliseconds since 1970. */
export async function checkServer(
  client: Client,
  { now, ...size }: InstanceSize & { now: () => number },
): Promise<Finding[]> {
  const asked = now();
  const { rows } = await client.query<{
    clock_ms: number;
    number: number;
    version: string;
    standby: boolean;
    queue: number;
    used: number;
    usable: number;
    prepared: string[];
  }>(
    `select extract(epoch from clock_timestamp())::float8 * 1000 as clock_ms,
            current_setting('server_version_num')::int as number, current_setting('server_version') as version,
            pg_is_in_recovery() as standby, pg_notification_queue_usage() as queue,
            (select count(*)::int from pg_stat_activity where backend_type = 'client backend') as used,
            current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int as usable,
            array(select gid from pg_prepared_xacts where database = current_database() order by prepared) as prepared`,
  );
  const answered = now();
  const [row] = rows;
  if (row === undefined) return [];
  const findings = [gradeVersion(row.number, row.version)];
  if (row.standby)
    findings.push(
      fail(
        'primary',
        'this is a standby: it has no horizon, and takes no writes',
        'point DATABASE_URL at the primary',
      ),
    );
  findings.push(gradeClock((asked + answered) / 2 - row.clock_ms, (answered - asked) / 2));
  findings.push(gradeRoom(row.used, row.usable, size));
  if (!row.standby) findings.push(gradeNotifyQueue(row.queue));
  if (row.prepared.length > 0)
    findings.push(
      warn(
        'prepared',
        `prepared transactions wait to be ended: ${row.prepared.slice(0, 3).join(', ')}`,
        "rollback prepared '…', or commit prepared '…'; on tables with events PREPARE TRANSACTION is not supported",
      ),
    );
  return findings;
}
