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
    if (there.enabled === 'D' || there.enabled === 'R')
      return [
        fail(
          'triggers',
          `${whose} is switched off: its changes make no events`,
          `alter table ${table} enable trigger ${name}; who missed events needs a new snapshot: select outbox_new_epoch()`,
        ),
      ];
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

/** Our own triggers; and, where the tables are somebody else's, whether anything writes events. */
export async function checkTriggers(client: Client): Promise<Finding[]> {
  const { rows: found } = await client.query<Found>(
    `select t.tgname as name, c.relname as table, t.tgenabled as enabled,
            replace(pg_get_triggerdef(t.oid), format(' ON %I.', n.nspname), ' ON ') as definition
       from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
      where not t.tgisinternal and n.nspname = current_schema()`,
  );
  const { rows } = await client.query<{ domain: boolean; writers: string[] }>(
    `select exists (select from outbox_migration where name like '%\\_domain\\_%') as domain,
            array(select distinct t.tgrelid::regclass::text
                    from pg_trigger t join pg_proc p on p.oid = t.tgfoid
                   where p.prosrc ~ 'outbox_(append|appending|publish)\\M'
                     and t.tgrelid not in ('outbox_publishing'::regclass, 'outbox_revocations'::regclass)) as writers`,
  );
  const { domain = false, writers = [] } = rows[0] ?? {};
  const expected = parseTriggers(await readFile(SCHEMA_DUMP, 'utf8'));
  if (domain) return gradeTriggers(expected, found);
  const own = gradeTriggers(
    expected.filter(({ table }) => table.startsWith('outbox')),
    found,
  );
  return [
    ...own,
    writers.length === 0
      ? warn(
          'writers',
          'no trigger calls outbox_publish(): only what is published by hand makes events',
          'see docs/adopting.md',
        )
      : ok('writers', `triggers that publish: on ${writers.join(', ')}`),
  ];
}
