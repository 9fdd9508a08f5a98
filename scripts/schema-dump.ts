/*
 * The schema that the migrations make, as text: `npm run schema:dump` compares it with migrations/schema.txt and fails on a
 * difference, `npm run schema:dump -- --write` writes it. So a review shows what a migration changes, and one that leaves
 * different schemas on different versions of Postgres is found. Read from the catalogs, because pg_dump's text differs
 * from version to version; where the catalogs do as well, the difference is taken out below, with its reason.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type pg from 'pg';
import { migrate } from '../src/migrate.ts';
import { createEmptyDatabase, startTestServer, stopTestServer } from '../test/support/database.ts';

const COMMITTED = fileURLToPath(new URL('../migrations/schema.txt', import.meta.url));

// Each query returns one column, `line`; a line may span several. All order is by bytes, as that of type `name` always is.
const SECTIONS: Readonly<Record<string, string>> = {
  tables: `
    select concat_ws(' ', case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, c.relname,
             case when c.relkind = 'p' then 'partition by ' || pg_get_partkeydef(c.oid) end,
             case when c.relispartition then (select 'partition of ' || i.inhparent::regclass from pg_inherits i where i.inhrelid = c.oid) end,
             pg_get_expr(c.relpartbound, c.oid), c.reloptions::text,
             case when c.relrowsecurity then 'row level security' end) as line
      from ours c where c.relkind in ('r', 'p', 'v', 'S')
     order by c.relname`,

  columns: `
    select concat_ws(' ', c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod),
             case when a.attnotnull then 'not null' end,
             case when a.attgenerated = 's' then 'generated' else 'default' end || ' ' || pg_get_expr(d.adbin, d.adrelid),
             case a.attidentity when 'a' then 'identity always' when 'd' then 'identity by default' end) as line
      from ours c join pg_attribute a on a.attrelid = c.oid
      left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
     where c.relkind in ('r', 'p', 'v') and a.attnum > 0 and not a.attisdropped
     order by c.relname, a.attnum`,

  domains: `
    select concat_ws(' ', t.typname, 'as', format_type(t.typbasetype, t.typtypmod), k.conname, pg_get_constraintdef(k.oid)) as line
      from pg_type t left join pg_constraint k on k.contypid = t.oid
     where t.typnamespace = current_schema()::regnamespace and t.typtype = 'd'
     order by t.typname, k.conname`,

  // Since 18 every NOT NULL is a constraint in the catalog, too; here it is said with the column.
  constraints: `
    select concat_ws(' ', c.relname, k.conname, pg_get_constraintdef(k.oid)) as line
      from ours c join pg_constraint k on k.conrelid = c.oid
     where k.contype <> 'n'
     order by c.relname, k.conname`,

  indexes: `
    select pg_get_indexdef(i.indexrelid) as line
      from ours c join pg_index i on i.indrelid = c.oid join pg_class x on x.oid = i.indexrelid
     order by x.relname`,

  sequences: `
    select format('%s as %s start %s increment %s min %s max %s cache %s%s', c.relname, format_type(s.seqtypid, null), s.seqstart,
             s.seqincrement, s.seqmin, s.seqmax, s.seqcache, case when s.seqcycle then ' cycle' else '' end) as line
      from ours c join pg_sequence s on s.seqrelid = c.oid
     order by c.relname`,

  // Since 16 a column is not qualified where there is nothing to confuse it with; before, it always is.
  views: `
    select c.relname || E'\\n' || regexp_replace(pg_get_viewdef(c.oid), '\\m[a-z_]+\\.(?=[a-z_])', '', 'g') as line
      from ours c where c.relkind = 'v'
     order by c.relname`,

  functions: `
    select pg_get_functiondef(p.oid) as line
      from pg_proc p where p.pronamespace = current_schema()::regnamespace and p.prokind in ('f', 'p')
     order by p.oid::regprocedure::text collate "C"`,

  triggers: `
    select pg_get_triggerdef(t.oid) as line
      from ours c join pg_trigger t on t.tgrelid = c.oid
     where not t.tgisinternal
     order by c.relname, t.tgname`,

  // The owner's own privileges are left out: 17 added one.
  grants: `
    select format('%s: %s to %s', object, privilege_type, case when grantee = 0 then 'public' else grantee::regrole::text end) as line
      from (select c.relname::text as object, a.* from ours c, aclexplode(c.relacl) a where a.grantee <> c.relowner
            union all
            select p.oid::regprocedure::text, a.*
              from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
             where p.pronamespace = current_schema()::regnamespace and a.grantee <> p.proowner) g
     order by object collate "C", privilege_type collate "C", grantee`,

  comments: `
    select object || ': ' || description as line
      from (select c.relname || coalesce('.' || a.attname, '') as object, d.description
              from ours c join pg_description d on d.classoid = 'pg_class'::regclass and d.objoid = c.oid
              left join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid and d.objsubid > 0
            union all
            select p.oid::regprocedure::text, obj_description(p.oid, 'pg_proc')
              from pg_proc p where p.pronamespace = current_schema()::regnamespace
            union all
            select t.typname || '', obj_description(t.oid, 'pg_type')
              from pg_type t where t.typnamespace = current_schema()::regnamespace and t.typtype = 'd'
            union all
            select t.tgname || ' on ' || c.relname, obj_description(t.oid, 'pg_trigger')
              from ours c join pg_trigger t on t.tgrelid = c.oid where not t.tgisinternal
            union all
            select k.conname || ' on ' || c.relname, obj_description(k.oid, 'pg_constraint')
              from ours c join pg_constraint k on k.conrelid = c.oid) o
     where description is not null
     order by object collate "C", description collate "C"`,
};

async function dumpSchema(pool: pg.Pool): Promise<string> {
  const parts: string[] = [];
  for (const [title, query] of Object.entries(SECTIONS)) {
    const { rows } = await pool.query<{ line: string }>(
      `with ours as (select * from pg_class where relnamespace = current_schema()::regnamespace) ${query}`,
    );
    const lines = rows.map(({ line }) => line.trimEnd());
    if (lines.length > 0) parts.push(`-- ${title}\n\n${lines.join('\n')}\n`);
  }
  return parts.join('\n');
}

function firstDifference(committed: string, made: string): string {
  const [before, after] = [committed.split('\n'), made.split('\n')];
  const at = after.findIndex((line, index) => line !== before[index]);
  const index = at === -1 ? after.length : at;
  return `line ${index + 1}\n  committed: ${before[index] ?? '(end)'}\n  made:      ${after[index] ?? '(end)'}`;
}

async function main(): Promise<void> {
  const server = await startTestServer();
  try {
    const database = await createEmptyDatabase();
    await migrate({ connectionString: database.url, set: 'all' });
    const made = await dumpSchema(database.pool);
    await database.drop();
    if (process.argv.includes('--write')) {
      await writeFile(COMMITTED, made);
      console.log(`schema written from PostgreSQL ${server.version}`);
      return;
    }
    const committed = await readFile(COMMITTED, 'utf8').catch(() => '');
    if (made === committed) {
      console.log(`schema of PostgreSQL ${server.version} is as committed`);
      return;
    }
    console.error(
      `schema of PostgreSQL ${server.version} differs from migrations/schema.txt at ${firstDifference(committed, made)}`,
    );
    console.error('If the change is meant: npm run schema:dump -- --write');
    process.exitCode = 1;
  } finally {
    await stopTestServer();
  }
}

await main();
