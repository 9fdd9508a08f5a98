import pg from 'pg';
import { createPool } from '../../src/database.ts';
import { migrate } from '../../src/migrate.ts';
import { type PostgresServer, startPostgresServer } from './postgres-server.ts';
import { asService, grantService, RUN } from './service-role.ts';

export interface TestDatabase {
  readonly url: string;
  /** The same as the service's role; its rights come with the migrations, and are missing from an empty database. */
  readonly serviceUrl: string;
  /** A pool of the database's owner, ended by `drop`. */
  readonly pool: pg.Pool;
  /** Ends the pool and removes the database, whoever is still connected to it. */
  drop(): Promise<void>;
}

// The one server of a run is started by mocha's first process; those that run the files beside one another find it by its URL.
// Each has a template and a service role of its own, named after the run, so that the first process can remove them all.
const run: { server?: PostgresServer; template?: Promise<string>; databases: number } = { databases: 0 };

/** Starts the server of this run; tests ask only for databases. */
export async function startTestServer(): Promise<PostgresServer> {
  const { SETTLEWIRE_TEST_SERVER: started } = process.env;
  run.server ??=
    started === undefined ? await startPostgresServer(process.env) : (JSON.parse(started) as PostgresServer);
  return run.server;
}

export async function stopTestServer(): Promise<void> {
  const { server } = run;
  delete run.server;
  delete run.template;
  if (!server) return;
  // Somebody's server goes on without us.
  if (server.source === 'url') await removeTraces(server);
  await server.stop();
}

/** A database of one's own with every migration applied: a copy of a template that is migrated once a run. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const server = await startTestServer();
  run.template ??= createTemplate(server);
  return createDatabase(server, await run.template);
}

/** A database of one's own with nothing in it. */
export async function createEmptyDatabase(): Promise<TestDatabase> {
  return createDatabase(await startTestServer(), 'template0');
}

async function removeTraces(server: PostgresServer): Promise<void> {
  const client = new pg.Client({ connectionString: server.url, application_name: 'test administration' });
  await client.connect();
  try {
    const { rows } = await client.query<{ statement: string }>(
      `select format('drop database if exists %I with (force)', datname) as statement from pg_database where datname like $1
       union all
       select format('drop role if exists %I', rolname) from pg_roles where rolname like $2
       order by 1`,
      [`settlewire\\_template\\_${RUN}\\_%`, `settlewire\\_service\\_${RUN}\\_%`],
    );
    for (const { statement } of rows) await client.query(statement);
  } finally {
    await client.end();
  }
}

async function createTemplate(server: PostgresServer): Promise<string> {
  const name = `settlewire_template_${RUN}_${process.pid}`;
  await administer(server, `create database ${name} template template0`);
  await migrate({ connectionString: urlOf(server, name), set: 'all' });
  await grantService(urlOf(server, name));
  return name;
}

async function createDatabase(server: PostgresServer, template: string): Promise<TestDatabase> {
  run.databases += 1;
  const name = `settlewire_test_${process.pid}_${run.databases}`;
  await administer(server, `create database ${name} template ${template}`);
  const url = urlOf(server, name);
  const pool = createPool(url, { max: 40, applicationName: 'test' });
  let dropped: Promise<void> | undefined;
  const drop = async () => {
    await pool.end();
    await dropDatabase(server, name);
  };
  return {
    url,
    serviceUrl: asService(url),
    pool,
    drop: () => {
      dropped ??= drop();
      return dropped;
    },
  };
}

function dropDatabase(server: PostgresServer, name: string): Promise<void> {
  return administer(server, `drop database if exists ${name} with (force)`);
}

async function administer(server: PostgresServer, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: server.url, application_name: 'test administration' });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

function urlOf(server: PostgresServer, database: string): string {
  const url = new URL(server.url);
  url.pathname = `/${database}`;
  return url.href;
}
