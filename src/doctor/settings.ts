import type { Client } from 'pg';
import { type Finding, fail, ok, warn } from './finding.ts';

/** Values of server settings by name, in the setting's own unit, as `current_setting` has them for this role and database. */
export type Settings = Readonly<Record<string, string | undefined>>;

interface Rule {
  readonly setting: string;
  readonly hurts: (value: string, settings: Settings) => boolean;
  readonly grade: 'warn' | 'fail';
  readonly why: string;
  readonly advice: string;
}

const isOff = (value: string): boolean => value === 'off';
/** Shorter than what a replay or a read may take (DATABASE_SILENCE_MS in service.ts). */
const isShort = (value: string): boolean => value !== '0' && Number(value) < 5000;

const RULES: readonly Rule[] = [
  {
    setting: 'fsync',
    hurts: isOff,
    grade: 'fail',
    why: 'is off: a crash loses events that were delivered, and gives their ids to others',
    advice: 'alter system set fsync = on; then restart Postgres',
  },
  {
    setting: 'full_page_writes',
    hurts: isOff,
    grade: 'warn',
    why: 'is off: a crash can corrupt tables, unless the file system writes pages whole',
    advice: 'alter system set full_page_writes = on; select pg_reload_conf()',
  },
  {
    setting: 'synchronous_commit',
    hurts: isOff,
    grade: 'warn',
    why: 'is off: a commit with events waits for its flush all the same, all others may be lost in a crash',
    advice:
      'leave it on for writers, and turn it off only for transactions that have no events and may be lost',
  },
  {
    setting: 'synchronous_standby_names',
    hurts: (value, settings) =>
      value !== '' && !['off', 'local'].includes(settings['synchronous_commit'] ?? ''),
    grade: 'warn',
    why: 'makes each commit wait for a standby, and every event after it as well: when the standby is away, all clients wait',
    advice:
      'name more standbys than must answer (ANY 1 (a, b)), and alert on settlewire_horizon_stall_seconds',
  },
  {
    setting: 'idle_in_transaction_session_timeout',
    hurts: (value) => value === '0',
    grade: 'warn',
    why: 'is off: a forgotten transaction that has appended events holds back every client until somebody ends it',
    advice: "alter role <the application's> set idle_in_transaction_session_timeout = '60s'",
  },
  {
    setting: 'idle_session_timeout',
    hurts: (value) => value !== '0',
    grade: 'warn',
    why: "cuts the service's quiet sessions, among them the one that listens; each time there is a pause",
    advice: "alter role <settlewire's> set idle_session_timeout = 0",
  },
  {
    setting: 'statement_timeout',
    hurts: isShort,
    grade: 'warn',
    why: 'is shorter than the 5 s that the service gives its queries: long replays are cut off',
    advice: "alter role <settlewire's> set statement_timeout = 0",
  },
  {
    setting: 'default_transaction_isolation',
    hurts: (value) => value !== 'read committed',
    grade: 'fail',
    why: 'is not read committed: the outbox cannot be read in order, and every read raises an error',
    advice: "alter role <settlewire's> set default_transaction_isolation = 'read committed'",
  },
  {
    setting: 'default_transaction_read_only',
    hurts: (value) => value === 'on',
    grade: 'fail',
    why: 'is on: no partitions can be made, and no revocations kept',
    advice: "alter role <settlewire's> set default_transaction_read_only = off",
  },
  {
    setting: 'session_replication_role',
    hurts: (value) => value === 'replica',
    grade: 'fail',
    why: 'is replica: triggers do not fire, and changes make no events',
    advice: 'alter role <who> reset session_replication_role; reset it for the database as well',
  },
  {
    setting: 'autovacuum',
    hurts: isOff,
    grade: 'warn',
    why: 'is off: tables bloat, and transaction ids run out',
    advice: 'alter system set autovacuum = on; select pg_reload_conf()',
  },
  {
    setting: 'track_commit_timestamp',
    hurts: (value) => value === 'on',
    grade: 'warn',
    why: 'is on: each commit writes a little more; nothing here needs it',
    advice: 'turn it off, unless something else needs it (logical replication with conflicts does)',
  },
  {
    setting: 'server_encoding',
    hurts: (value) => value !== 'UTF8',
    grade: 'warn',
    why: 'is not UTF8: an event with a character that it lacks fails the transaction that writes it',
    advice: 'make the database anew with encoding UTF8',
  },
];

export const SETTING_NAMES: readonly string[] = RULES.map(({ setting }) => setting);

/** A finding for each setting that hurts; one that says so if none does. */
export function gradeSettings(settings: Settings): Finding[] {
  const findings = RULES.flatMap(({ setting, hurts, grade, why, advice }) => {
    const value = settings[setting];
    if (value === undefined || !hurts(value, settings)) return [];
    const says = `${setting} ${why}`;
    return [grade === 'fail' ? fail('setting', says, advice) : warn('setting', says, advice)];
  });
  return findings.length > 0 ? findings : [ok('settings', `${RULES.length} were looked at, none hurts`)];
}

/** Reads what {@link gradeSettings} grades; a setting that this server does not have is left out. */
export async function readSettings(client: Client): Promise<Settings> {
  const { rows } = await client.query<{ name: string; setting: string }>(
    'select name, setting from pg_settings where name = any ($1)',
    [SETTING_NAMES],
  );
  return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
}

/** Who has triggers switched off by a role's or a database's setting. */
export async function checkReplicationRole(client: Client): Promise<Finding[]> {
  const { rows } = await client.query<{ who: string }>(
    `select coalesce('role ' || r.rolname, 'every role') || coalesce(' in database ' || d.datname, '') as who
       from pg_db_role_setting s
            left join pg_roles r on r.oid = s.setrole
            left join pg_database d on d.oid = s.setdatabase
      where s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
        and 'session_replication_role=replica' = any (s.setconfig)`,
  );
  return rows.map(({ who }) =>
    fail(
      'setting',
      `session_replication_role is replica for ${who}: what they change makes no events`,
      'alter role … reset session_replication_role, or alter database … reset session_replication_role',
    ),
  );
}
