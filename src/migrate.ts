/*
 * Migrations: plain SQL files, numbered, up only, each applied whole in a transaction of its own.
 *
 * NNNN_outbox_what.sql is what every adopter needs; NNNN_domain_what.sql are our own business tables. An adopter may
 * apply the outbox set alone and add the other later, so the order is kept within a set, not across both.
 * The sha256 of an applied file is stored with it: whoever starts on edited, missing or reordered history is refused
 * before anything is changed. One session holds an advisory lock and does the work, so that instances that start
 * together migrate once, and a lost connection loses lock and transaction together.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Kysely, Migrator, PostgresDialect, sql } from 'kysely';
import pg from 'pg';

export type MigrationSet = 'all' | 'outbox';

export interface MigrateOptions {
  readonly connectionString: string;
  readonly set: MigrationSet;
  /** Where the files are; by default those that come with the package. */
  readonly directory?: string;
}

export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}

interface MigrationFile {
  readonly name: string;
  readonly kind: 'outbox' | 'domain';
  readonly text: string;
  readonly sha256: string;
}

interface AppliedMigration {
  readonly name: string;
  readonly sha256: string | null;
}

interface MigrationTables {
  outbox_migration: { name: string; timestamp: string };
  outbox_migration_checksum: { name: string; sha256: string };
}

const PACKAGED_MIGRATIONS = fileURLToPath(new URL('../migrations', import.meta.url));
const FILE_NAME = /^(\d{4}_(outbox|domain)_[a-z0-9_]+)\.sql$/;

// House-keeping keys of the advisory key space that migrations/0002 describes.
const MIGRATION_LOCK_KEY = sql<string>`(21337::bigint << 48)`;
const LOCK_WAIT_SECONDS = 300;

/**
 * Applies what is pending of a set, and returns the names of the files applied, in order. Waits while another instance
 * migrates, five minutes at most.
 * @throws MigrationError that names the file: it failed (and left nothing behind), or an applied one was edited, is
 *   missing, or would come after a new one.
 */
export async function migrate(options: MigrateOptions): Promise<{ applied: string[] }> {
  const files = await readMigrations(options.directory ?? PACKAGED_MIGRATIONS);
  return withSession(options.connectionString, async (db) => {
    const schema = await currentSchema(db);
    await lockMigrations(db);
    const before = await appliedMigrations(db, schema);
    const pending = pendingOf(options.set, files, before);
    if (pending.length === 0) return { applied: [] };
    await createChecksumTable(db);
    // Files of the other set are none of this run's business, except those that have been applied already.
    const known = files.filter(
      (file) => pending.includes(file) || before.some(({ name }) => name === file.name),
    );
    const migrator = new Migrator({
      db,
      provider: {
        getMigrations: async () =>
          Object.fromEntries(known.map((file) => [file.name, { up: (trx) => applyFile(trx, schema, file) }])),
      },
      migrationTableSchema: schema,
      migrationTableName: 'outbox_migration',
      migrationLockTableName: 'outbox_migration_lock',
      allowUnorderedMigrations: true,
    });
    const applied: string[] = [];
    // One step at a time: one transaction a file, where a single call would put all files in one.
    for (const file of pending) {
      const { error, results } = await migrator.migrateUp();
      if (error)
        throw new MigrationError(`migration ${file.name}.sql failed: ${explain(error, file.text)}`, {
          cause: error,
        });
      for (const result of results ?? []) applied.push(result.migrationName);
    }
    return { applied };
  });
}

/**
 * The names of the files of a set that are still to be applied, in order; changes nothing.
 * @throws MigrationError where `migrate` would refuse the history.
 */
export async function pendingMigrations(options: MigrateOptions): Promise<string[]> {
  const files = await readMigrations(options.directory ?? PACKAGED_MIGRATIONS);
  return withSession(options.connectionString, async (db) => {
    const applied = await appliedMigrations(db, await currentSchema(db));
    return pendingOf(options.set, files, applied).map((file) => file.name);
  });
}

async function readMigrations(directory: string): Promise<MigrationFile[]> {
  const files: MigrationFile[] = [];
  for (const entry of (await readdir(directory)).sort()) {
    if (!entry.endsWith('.sql')) continue;
    const [, name, kind] = FILE_NAME.exec(entry) ?? [];
    if (name === undefined)
      throw new MigrationError(
        `migration ${entry} is not named NNNN_outbox_what.sql or NNNN_domain_what.sql`,
      );
    // A checkout that turns line ends into CRLF is not an edit.
    const text = (await readFile(join(directory, entry), 'utf8')).replaceAll('\r\n', '\n');
    const sha256 = createHash('sha256').update(text).digest('hex');
    files.push({ name, kind: kind === 'outbox' ? 'outbox' : 'domain', text, sha256 });
  }
  const twice = files.find((file, index) => files[index + 1]?.name.slice(0, 4) === file.name.slice(0, 4));
  if (twice) throw new MigrationError(`migration ${twice.name}.sql shares its number with another file`);
  return files;
}

function pendingOf(set: MigrationSet, files: MigrationFile[], applied: AppliedMigration[]): MigrationFile[] {
  for (const { name, sha256 } of applied) {
    const file = files.find((candidate) => candidate.name === name);
    if (!file)
      throw new MigrationError(
        `migration ${name}.sql has been applied to this database but is missing: restore the file`,
      );
    if (file.sha256 !== sha256)
      throw new MigrationError(
        `migration ${name}.sql has been edited since it was applied: restore it, and make the change in a new file`,
      );
  }
  const pending = files.filter(
    (file) => (set === 'all' || file.kind === set) && !applied.some(({ name }) => name === file.name),
  );
  for (const file of pending) {
    const later = applied.find(({ name }) => name > file.name && name.split('_')[1] === file.kind);
    if (later)
      throw new MigrationError(
        `migration ${file.name}.sql comes before ${later.name}.sql, which has been applied: give it the next number`,
      );
  }
  return pending;
}

async function appliedMigrations(db: Kysely<MigrationTables>, schema: string): Promise<AppliedMigration[]> {
  const { rows } = await sql<{ found: boolean }>`
    select to_regclass(format('%I.outbox_migration', ${schema}::text)) is not null
       and to_regclass(format('%I.outbox_migration_checksum', ${schema}::text)) is not null as found`.execute(
    db,
  );
  if (!rows[0]?.found) return [];
  return db
    .withSchema(schema)
    .selectFrom('outbox_migration as m')
    .leftJoin('outbox_migration_checksum as c', 'c.name', 'm.name')
    .select(['m.name', 'c.sha256'])
    .orderBy('m.name')
    .execute();
}

// Objects go to the schema that the connection's search_path names first, and nowhere else: a name that is missing there
// must fail, not be found in a schema behind it. `search_path from current` in a function keeps the same two.
async function applyFile(db: Kysely<MigrationTables>, schema: string, file: MigrationFile): Promise<void> {
  await sql`select set_config('search_path', format('%I, pg_temp', ${schema}::text), true)`.execute(db);
  await sql.raw(file.text).execute(db);
  await sql`select set_config('search_path', format('%I, pg_temp', ${schema}::text), true)`.execute(db);
  await db.insertInto('outbox_migration_checksum').values({ name: file.name, sha256: file.sha256 }).execute();
  await describeMigrationTables(db);
}

async function createChecksumTable(db: Kysely<MigrationTables>): Promise<void> {
  await sql`
    create table if not exists outbox_migration_checksum (
      name text constraint outbox_migration_checksum_pkey primary key,
      sha256 text not null,
      applied_at timestamptz not null default now()
    )`.execute(db);
}

async function describeMigrationTables(db: Kysely<MigrationTables>): Promise<void> {
  await sql`
    comment on table outbox_migration is 'Migrations that have been applied, kept by kysely.';
    comment on column outbox_migration.name is 'File name without .sql.';
    comment on column outbox_migration.timestamp is 'When it was applied (ISO 8601, clock of the migrating process).';
    comment on table outbox_migration_lock is 'Needed by kysely; the lock that counts is an advisory one.';
    comment on column outbox_migration_lock.id is 'Always migration_lock.';
    comment on column outbox_migration_lock.is_locked is 'Not used on Postgres.';
    comment on table outbox_migration_checksum is 'What the applied migrations contained: an edited file is refused.';
    comment on column outbox_migration_checksum.name is 'File name without .sql.';
    comment on column outbox_migration_checksum.sha256 is 'SHA-256 of the file in hex, line ends as LF.';
    comment on column outbox_migration_checksum.applied_at is 'Start of the transaction that applied it.'`.execute(
    db,
  );
}

async function lockMigrations(db: Kysely<MigrationTables>): Promise<void> {
  try {
    await sql`set lock_timeout = ${sql.lit(`${LOCK_WAIT_SECONDS}s`)}`.execute(db);
    await sql`select pg_advisory_lock(${MIGRATION_LOCK_KEY})`.execute(db);
    await sql`reset lock_timeout`.execute(db);
  } catch (error) {
    throw new MigrationError(`no turn to migrate within ${LOCK_WAIT_SECONDS} s: ${explain(error)}`, {
      cause: error,
    });
  }
}

async function currentSchema(db: Kysely<MigrationTables>): Promise<string> {
  const { rows } = await sql<{ schema: string | null; path: string }>`
    select current_schema() as schema, current_setting('search_path') as path`.execute(db);
  const [{ schema, path } = { schema: null, path: '' }] = rows;
  if (!schema)
    throw new MigrationError(
      `no schema named by the search_path of this connection (${path}) exists, or its role may not use it: create schema, or grant usage on it`,
    );
  return schema;
}

/** Runs `work` on one session; ending it releases the migration lock. */
async function withSession<T>(url: string, work: (db: Kysely<MigrationTables>) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url, application_name: 'settlewire migrate' });
  // A broken connection fails the query at hand; without a listener it would end the process.
  client.on('error', () => {});
  await client.connect();
  const session = Object.assign(client, { release: () => {} });
  const db = new Kysely<MigrationTables>({
    dialect: new PostgresDialect({ pool: { connect: async () => session, end: async () => {} } }),
  });
  try {
    return await work(db);
  } finally {
    await client.end();
  }
}

function explain(error: unknown, text = ''): string {
  if (!(error instanceof Error)) return String(error);
  const { detail, hint, position } = error as Partial<pg.DatabaseError>;
  const line = position && text && `line ${text.slice(0, Number(position)).split('\n').length}`;
  return [error.message, line, detail, hint].filter(Boolean).join('; ');
}
