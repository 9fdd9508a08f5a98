import { readFile } from 'node:fs/promises';
import type { Client } from 'pg';
import { type Finding, fail, ok, warn } from './finding.ts';

/** What the migrations of this version make: name, table, definition without the schema. Checked in CI against a migrated database. */
const SCHEMA_DUMP = new URL('../../migrations/schema.txt', import.meta.url);

interface Trigger {
  readonly name: string;
  readonly table: string;
  readonly definition: string;
}

interface Found extends Trigger {
  /** pg_trigger.tgenabled: O on, D off, R only on replicas, A always. */
  readonly enabled: string;
}

/** The triggers in a dump of the schema. */
export function parseTriggers(dump: string): Trigger[] {
  return dump.split('\n').flatMap((line) => {
    const [, name, table] = /^CREATE (?:CONSTRAINT )?TRIGGER (\S+) .*? ON public\.(\S+) /.exec(line) ?? [];
    if (name === undefined || table === undefined) return [];
    return [{ name, table, definition: line.replace(' ON public.', ' ON ') }];
  });
}

function switchedOff(check: string, name: string, table: string): Finding {
  return fail(
    check,
    `${name} on ${table} is switched off: its changes make no events`,
    `alter table ${table} enable trigger ${name}; who missed events needs a new snapshot: select outbox_new_epoch()`,
  );
}

export function gradeTriggers(expected: readonly Trigger[], found: readonly Found[]): Finding[] {
  const findings = expected.flatMap(({ name, table, definition }): Finding[] => {
    const there = found.find((candidate) => candidate.name === name && candidate.table === table);
    const whose = `${name} on ${table}`;
    if (there === undefined)
      return [
        fail(
          'triggers',
          `${whose} is missing: its changes make no events`,
          'make it as the migration has it',
        ),
      ];
    if (there.enabled === 'D' || there.enabled === 'R') return [switchedOff('triggers', name, table)];
    if (there.definition !== definition)
      return [
        warn(
          'triggers',
          `${whose} is not as the migrations make it: ${there.definition}`,
          `it was: ${definition}`,
        ),
      ];
    return [];
  });
  return findings.length > 0 ? findings : [ok('triggers', `${expected.length} in place and on`)];
}

/** Triggers on tables that are not ours: one that is switched off is as bad as one of ours. */
function gradeWriters(writers: readonly Pick<Found, 'name' | 'table' | 'enabled'>[]): Finding[] {
  if (writers.length === 0)
    return [
      warn(
        'writers',
        'no trigger calls outbox_append(): only what is published by hand makes events',
        'see docs/adopting.md',
      ),
    ];
  const off = writers.filter(({ enabled }) => enabled === 'D' || enabled === 'R');
  if (off.length > 0) return off.map(({ name, table }) => switchedOff('writers', name, table));
  return [
    ok('writers', `triggers that publish: on ${[...new Set(writers.map(({ table }) => table))].join(', ')}`),
  ];
}

/** Our own triggers; and, where the tables are somebody else's, whether anything writes events. */
export async function checkTriggers(client: Client): Promise<Finding[]> {
  const { rows: found } = await client.query<Found>(
    `select t.tgname as name, c.relname as table, t.tgenabled as enabled,
            replace(pg_get_triggerdef(t.oid), format(' ON %I.', n.nspname), ' ON ') as definition
       from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
      where not t.tgisinternal and n.nspname = current_schema()`,
  );
  const { rows: writers } = await client.query<Pick<Found, 'name' | 'table' | 'enabled'>>(
    `select quote_ident(t.tgname) as name, t.tgrelid::regclass::text as table, t.tgenabled as enabled
       from pg_trigger t join pg_proc p on p.oid = t.tgfoid
      where p.prosrc ~ 'outbox_(append|appending|publish)\\M'
        and t.tgrelid not in ('outbox_publishing'::regclass, 'outbox_revocations'::regclass)
      order by 2, 1`,
  );
  const { rows } = await client.query<{ domain: boolean }>(
    `select exists (select from outbox_migration where name like '%\\_domain\\_%') as domain`,
  );
  const expected = parseTriggers(await readFile(SCHEMA_DUMP, 'utf8'));
  if (rows[0]?.domain) return gradeTriggers(expected, found);
  const own = gradeTriggers(
    expected.filter(({ table }) => table.startsWith('outbox')),
    found,
  );
  return [...own, ...gradeWriters(writers)];
}
