import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from 'pg';
import { missingRights } from '../outbox/rights.ts';
import { type Finding, fail, ok, warn } from './finding.ts';

export interface Partitions {
  readonly lastId: number;
  /** Ids in one partition. */
  readonly width: number;
  /** First id that no partition may hold. */
  readonly end: number;
  /** Rows in the default partition, 1000 at most. */
  readonly strays: number;
}

export function gradePartitions({ lastId, width, end, strays }: Partitions): Finding[] {
  const ahead = Math.floor((end - 1 - lastId) / width);
  const advice =
    'an instance makes them every minute: is one running? By hand: select outbox_add_partitions()';
  const findings: Finding[] = [];
  if (end <= lastId + 1)
    findings.push(fail('partitions', 'none left: new events go to the default partition', advice));
  else if (ahead < 1)
    findings.push(warn('partitions', `none ahead, ${end - 1 - lastId} ids are left`, advice));
  else findings.push(ok('partitions', `${ahead} ahead, ${end - 1 - lastId} ids`));
  if (strays > 0)
    findings.push(
      warn(
        'default partition',
        `holds ${strays === 1000 ? '1000 or more' : strays} events: they are delivered, and retention never drops them`,
        'when no client needs them any more: truncate outbox_default',
      ),
    );
  else findings.push(ok('default partition', 'empty'));
  return findings;
}

export async function checkPartitions(client: Client): Promise<Finding[]> {
  const { rows } = await client.query<{ last_id: string; width: string; end: string; strays: number }>(
    `select coalesce(pg_sequence_last_value('outbox_id_seq'), 0)::text as last_id,
            (select partition_ids from outbox_meta)::text as width,
            (select coalesce(max(substring(pg_get_expr(c.relpartbound, c.oid) from $re$TO \\('(\\d+)'\\)$re$)::bigint), 0)
               from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'outbox'::regclass)::text as "end",
            (select count(*)::int from (select from outbox_default limit 1000) strays) as strays`,
  );
  const [row] = rows;
  if (row === undefined) return [];
  return gradePartitions({
    lastId: Number(row.last_id),
    width: Number(row.width),
    end: Number(row.end),
    strays: row.strays,
  });
}

/** Whether the oldest partition should have gone: with an hour to spare, since partitions go whole and locks are waited for. */
export async function checkRetention(client: Client, retentionHours: number): Promise<Finding[]> {
  const { rows } = await client.query<{ overdue: boolean; newest: string }>(
    `with bounds as (
       select substring(pg_get_expr(c.relpartbound, c.oid) from $re$TO \\('(\\d+)'\\)$re$)::bigint as end
         from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'outbox'::regclass
     ), last_of_first as (
       select o.id, o.created_at from outbox o where o.id < (select min(b.end) from bounds b) order by o.id desc limit 1
     )
     select l.created_at < now() - make_interval(hours => $1 + 1) and exists (select from outbox o where o.id > l.id) as overdue,
            l.created_at::text as newest
       from last_of_first l`,
    [retentionHours],
  );
  const [row] = rows;
  if (row?.overdue)
    return [
      warn(
        'retention',
        `the oldest partition ends at ${row.newest}, more than RETENTION_HOURS (${retentionHours}) ago`,
        'an instance drops it as soon as nobody holds a lock on the outbox: is one running, is a dump or a long query open?',
      ),
    ];
  return [ok('retention', `nothing is older than ${retentionHours} hours and a partition`)];
}

interface Holder {
  readonly pid: number | null;
  readonly who: string;
  readonly state: string | null;
  readonly horizon: string;
}

/**
 * Who holds back all readers. A commit takes milliseconds, so only those count that are still there at a second look.
 * @param settleMs between the two looks
 */
export async function checkHorizon(client: Client, settleMs: number): Promise<Finding[]> {
  const look = async (): Promise<Holder[]> => {
    const { rows } = await client.query<Holder>(
      `select pid, state, horizon::text,
              coalesce(nullif(application_name, ''), 'no application name') || coalesce(', role ' || usename, '') as who
         from outbox_inflight order by horizon limit 100`,
    );
    return rows;
  };
  const before = await look();
  if (before.length > 0) await delay(settleMs);
  const same = (one: Holder) => (other: Holder) => one.pid === other.pid && one.horizon === other.horizon;
  const stuck = before.length === 0 ? [] : (await look()).filter((now) => before.some(same(now)));
  if (stuck.length === 0) return [ok('horizon', 'nobody holds it back')];
  return stuck.slice(0, 5).map(({ pid, who, state, horizon }) => {
    if (pid === null)
      return fail(
        'horizon',
        `a prepared transaction holds it at ${horizon}: no client gets later events`,
        "rollback prepared '…' (select gid from pg_prepared_xacts)",
      );
    const says = `held at ${horizon} by ${pid} (${who}), ${state ?? 'state unknown'}: no client gets later events`;
    const advice = `select pg_terminate_backend(${pid}) rolls its transaction back and lets go`;
    return state?.startsWith('idle') ? fail('horizon', says, advice) : warn('horizon', says, advice);
  });
}

/** Whether the service's role may do what it does, and whether the database was restored since the epoch began. */
export async function checkRights(client: Client): Promise<Finding[]> {
  const { rows } = await client.query<{ role: string }>('select current_user as role');
  const role = rows[0]?.role ?? '';
  const missing = await missingRights(client);
  if (missing.length > 0)
    return [
      fail(
        'rights',
        `role ${role} has not all that a service needs: ${missing.join('; ')}`,
        `as the owner of the outbox: select outbox_grant_service('${role}')`,
      ),
    ];
  return [ok('rights', `role ${role} may do what a service needs`), ...(await checkEpoch(client))];
}

async function checkEpoch(client: Client): Promise<Finding[]> {
  const { rows } = await client.query<{ epoch: string; elsewhere: boolean }>(
    'select epoch::text, outbox_is_elsewhere() as elsewhere from outbox_meta',
  );
  const [row] = rows;
  if (row === undefined) return [fail('epoch', 'outbox_meta is empty', 'restore its row from a backup')];
  if (row.elsewhere)
    return [
      warn(
        'epoch',
        'this database was restored, copied or promoted, and no instance has looked at it since',
        'the next instance that connects begins a new epoch: every client gets a reset and takes the state again',
      ),
    ];
  return [ok('epoch', row.epoch)];
}

/** Instances that are connected to this database now. */
export async function checkInstances(client: Client): Promise<Finding[]> {
  const { rows } = await client.query<{ relays: number; listeners: number }>(
    `select count(*) filter (where application_name = 'settlewire relay')::int as relays,
            count(*) filter (where application_name = 'settlewire listen')::int as listeners
       from pg_stat_activity where datname = current_database()`,
  );
  const { relays = 0, listeners = 0 } = rows[0] ?? {};
  if (relays !== listeners)
    return [
      warn(
        'instances',
        `${relays} read the outbox, ${listeners} listen for rings`,
        'unless one has just started: see its log, and /readyz',
      ),
    ];
  return [ok('instances', relays === 0 ? 'none is connected' : `${relays} connected`)];
}
