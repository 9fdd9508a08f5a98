import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { MigrationError, type MigrationSet, migrate, pendingMigrations } from '../src/migrate.ts';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from './support/database.ts';
import { waitFor } from './support/wait-for.ts';

const BASE = '0001_outbox_base.sql';
const MORE = '0003_outbox_more.sql';
const DOMAIN = '0010_domain_things.sql';

describe('migrations', () => {
  let database: TestDatabase;
  let directory: string;

  beforeEach(async () => {
    database = await createEmptyDatabase();
    directory = await mkdtemp(join(tmpdir(), 'settlewire-migrations-'));
    await write(BASE, 'create table base (id int); insert into base values (1);');
    await write(MORE, 'create table more (id int);');
    await write(DOMAIN, 'create table things (id int);');
  });

  afterEach(async () => {
    await database.drop();
    await rm(directory, { recursive: true });
  });

  const write = (name: string, text: string) => writeFile(join(directory, name), text);
  const run = (set: MigrationSet = 'all', connectionString = database.url) =>
    migrate({ connectionString, set, directory });
  const pending = (set: MigrationSet = 'all') =>
    pendingMigrations({ connectionString: database.url, set, directory });

  async function tables(schema = 'public'): Promise<string[]> {
    const { rows } = await database.pool.query<{ name: string }>(
      `select table_name as name from information_schema.tables
        where table_schema = $1 and table_name not like 'outbox_migration%' order by 1`,
      [schema],
    );
    return rows.map((row) => row.name);
  }

  async function refusal(attempt: Promise<unknown>): Promise<string> {
    try {
      await attempt;
    } catch (error) {
      expect(error).to.be.instanceOf(MigrationError);
      return error instanceof Error ? error.message : '';
    }
    throw new Error('nothing was refused');
  }

  it('applies what is pending, in order, and nothing twice', async () => {
    expect(await pending()).to.deep.equal(['0001_outbox_base', '0003_outbox_more', '0010_domain_things']);
    expect(await run()).to.deep.equal({
      applied: ['0001_outbox_base', '0003_outbox_more', '0010_domain_things'],
    });
    expect(await pending()).to.deep.equal([]);
    expect(await run()).to.deep.equal({ applied: [] });
    expect(await tables()).to.deep.equal(['base', 'more', 'things']);
  });

  it('applies the outbox set alone, and the rest later, with outbox files that came since', async () => {
    expect((await run('outbox')).applied).to.deep.equal(['0001_outbox_base', '0003_outbox_more']);
    expect(await pending('outbox')).to.deep.equal([]);
    expect((await run('all')).applied).to.deep.equal(['0010_domain_things']);
    await write('0004_outbox_since.sql', 'create table since (id int);');
    expect((await run('outbox')).applied).to.deep.equal(['0004_outbox_since']);
    expect(await pending('all')).to.deep.equal([]);
  });

  it('migrates once when four instances start together', async () => {
    // One stops in its first file until the others wait for it.
    const gate = await database.pool.connect();
    await gate.query('select pg_advisory_lock(1)');
    await write(BASE, 'create table base (id int); select pg_advisory_xact_lock(1);');
    const running = [run(), run(), run(), run()];
    await waitFor(
      async () => {
        const { rows } = await database.pool.query<{ waiting: number }>(
          `select count(*)::int as waiting from pg_locks
            where not granted and locktype = 'advisory'
              and database = (select oid from pg_database where datname = current_database())`,
        );
        return rows[0]?.waiting === 4;
      },
      { what: 'all four to wait' },
    );
    await gate.query('select pg_advisory_unlock(1)');
    gate.release();
    const results = await Promise.all(running);
    expect(results.flatMap(({ applied }) => applied)).to.have.length(3);
    expect(results.filter(({ applied }) => applied.length === 3)).to.have.length(1);
  });

  it('leaves nothing behind of a file that fails, names file and line, and keeps those before it', async () => {
    await write(
      MORE,
      'create table more (id int);\ninsert into more values (1);\ncreate table broken (id nonsense);',
    );
    expect(await refusal(run())).to.match(/^migration 0003_outbox_more\.sql failed: .*nonsense.*; line 3$/);
    expect(await tables()).to.deep.equal(['base']);
    await write(MORE, 'create table more (id int);');
    expect((await run()).applied).to.deep.equal(['0003_outbox_more', '0010_domain_things']);
  });

  it('refuses an applied file that was edited', async () => {
    await run();
    await write(BASE, 'create table base (id int); -- edited');
    await write('0011_domain_new.sql', 'create table new (id int);');
    const message = /^migration 0001_outbox_base\.sql has been edited since it was applied/;
    expect(await refusal(run())).to.match(message);
    expect(await refusal(run('outbox'))).to.match(message);
    expect(await refusal(pending())).to.match(message);
    expect(await tables()).not.to.include('new');
  });

  it('takes a change of line ends for no edit', async () => {
    await write(BASE, 'create table base (\n  id int\n);\n');
    await run();
    await write(BASE, 'create table base (\r\n  id int\r\n);\r\n');
    expect(await pending()).to.deep.equal([]);
  });

  it('refuses an applied file that is missing, or was renamed', async () => {
    await run();
    await rename(join(directory, DOMAIN), join(directory, '0012_domain_things.sql'));
    expect(await refusal(run())).to.match(/^migration 0010_domain_things\.sql has been applied .* missing/);
  });

  it('refuses a new file that would come before an applied one of its set', async () => {
    await run();
    await write('0002_outbox_late.sql', 'create table late (id int);');
    expect(await refusal(run())).to.match(
      /^migration 0002_outbox_late\.sql comes before 0003_outbox_more\.sql/,
    );
    expect(await tables()).not.to.include('late');
  });

  it('refuses names that it cannot order', async () => {
    await write('0004-wrong.sql', '');
    expect(await refusal(run())).to.match(/^migration 0004-wrong\.sql is not named/);
    await rm(join(directory, '0004-wrong.sql'));
    await write('0003_domain_twin.sql', '');
    expect(await refusal(run())).to.match(/^migration 0003_domain_twin\.sql shares its number/);
  });

  it('puts everything into the schema that the search_path names first, and looks nowhere else', async () => {
    await database.pool.query('create schema "My App"; create table public.elsewhere (id int)');
    const url = new URL(database.url);
    url.searchParams.set('options', '-c search_path="My\\ App",public');
    await write(MORE, "create table more as select current_setting('search_path') as path;");
    await run('all', url.href);
    expect(await tables('My App')).to.deep.equal(['base', 'more', 'things']);
    expect(await tables()).to.deep.equal(['elsewhere']);
    const { rows } = await database.pool.query('select path from "My App".more');
    expect(rows).to.deep.equal([{ path: '"My App", pg_temp' }]);
    await write('0011_domain_reach.sql', 'select * from elsewhere;');
    expect(await refusal(run('all', url.href))).to.match(
      /0011_domain_reach\.sql failed: .*elsewhere.* does not exist/,
    );
  });

  it('refuses a connection whose search_path names no schema', async () => {
    const url = new URL(database.url);
    url.searchParams.set('options', '-c search_path=nowhere');
    expect(await refusal(run('all', url.href))).to.match(/^no schema named by the search_path/);
  });

  it('describes its tables to whoever looks, and needs no table of another tool', async () => {
    await database.pool.query(
      'create table kysely_migration (name text); insert into kysely_migration values (1)',
    );
    await run();
    const { rows } = await database.pool.query(
      `select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relname like 'outbox_migration%' and c.relkind = 'r' and a.attnum > 0
          and (obj_description(c.oid) is null or col_description(c.oid, a.attnum) is null)`,
    );
    expect(rows).to.deep.equal([]);
  });

  it('stores the checksum of every file', async () => {
    await run();
    const { rows } = await database.pool.query(
      'select name, length(sha256) as length from outbox_migration_checksum',
    );
    expect(rows).to.have.length(3).and.deep.include({ name: '0001_outbox_base', length: 64 });
  });
});

describe('the migrated schema', () => {
  let database: TestDatabase;

  before(async () => {
    database = await createTestDatabase();
  });

  after(() => database.drop());

  it('describes every table, view, sequence, column and function', async () => {
    const { rows } = await database.pool.query(
      `select c.relname || coalesce('.' || a.attname, '') as undescribed
         from pg_class c
         left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p')
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'S') and not c.relispartition
          and not exists (select from pg_depend i where i.objid = c.oid and i.deptype = 'i')
          and (obj_description(c.oid, 'pg_class') is null
               or a.attname is not null and col_description(c.oid, a.attnum) is null)
       union all
       select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'public'::regnamespace and obj_description(p.oid, 'pg_proc') is null`,
    );
    expect(rows).to.deep.equal([]);
  });

  it('lets nobody execute a function whom the owner has not named', async () => {
    const { rows } = await database.pool.query(
      `select p.oid::regprocedure::text as open
         from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where p.pronamespace = 'public'::regnamespace and a.grantee = 0`,
    );
    expect(rows).to.deep.equal([]);
  });

  it('lets every function that runs with its owner’s rights look only where the migrations put things', async () => {
    const { rows } = await database.pool.query<{ path: string }>(
      `select distinct (select s from unnest(p.proconfig) s where s like 'search_path=%') as path
         from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prosecdef
          -- Names everything with its schema instead, see attacks/search-path.
          and p.proname <> 'stream_updated_event'`,
    );
    expect(rows).to.deep.equal([{ path: 'search_path=public, pg_temp' }]);
  });
});
