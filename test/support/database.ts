import pg from 'pg';
import { createPool } from '../../src/database.ts';
import { migrate } from '../../src/migrate.ts';
import { type PostgresServer, startPostgresServer } from './postgres-server.ts';
import { asService, grantService, SERVICE_ROLE } from './service-role.ts';

export interface TestDatabase {
  readonly url: string;
  /** The same as the service's role; its rights come with the migrations, and are missing from an empty database. */
  readonly serviceUrl: string;
  /** A pool of the database's owner, ended by `drop`. */
  readonly pool: pg.Pool;
  /** Ends the pool and removes the database, whoever is still connected to it. */
  drop(): Promise<void>;
}

// The one server of a run, and the databases made on it: mocha gives a root hook and a test file nothing else to share.
const run: { server?: PostgresServer; template?: Promise<string>; databases: number } = { databases: 0 };

/** Starts the server of this run; tests ask only for databases. */
export async function startTestServer(): Promise<PostgresServer> {
  run.server ??= await startPostgresServer(process.env);
  return run.server;
}

export async function stopTestServer(): Promise<void> {
  const { server, template } = run;
  delete run.server;
  delete run.template;
  if (!server) return;
  if (template) await dropDatabase(server, await template);
  // Somebody's server goes on without us.
  if (server.source === 'url') await administer(server, `drop role if exists ${SERVICE_ROLE}`);
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

async function createTemplate(server: PostgresServer): Promise<string> {
  const name = `settlewire_template_${process.pid}`;
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
