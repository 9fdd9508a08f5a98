import pg from 'pg';
import { createPool } from '../../src/database.ts';
import { migrate } from '../../src/migrate.ts';
import { startTestServer } from './database.ts';
import { type PostgresServer, startPostgresServer } from './postgres-server.ts';
import { grantService } from './service-role.ts';

/** A server for one test file alone, which may crash it and set it up as it likes; with one migrated database. */
export interface PrivatePostgres {
  readonly url: string;
  readonly pool: pg.Pool;
  /** Sets server parameters that need no restart. */
  configure(settings: Readonly<Record<string, string>>): Promise<void>;
  stop(): Promise<void>;
}

/** Starts one of the run's own kind; embedded if the run uses somebody's server. */
export async function startPrivatePostgres(): Promise<PrivatePostgres> {
  const { source } = await startTestServer();
  const server: PostgresServer = await startPostgresServer({
    ...process.env,
    TEST_POSTGRES: source === 'container' ? 'container' : 'embedded',
  });
  await migrate({ connectionString: server.url, set: 'all' });
  await grantService(server.url);
  const pool = createPool(server.url, { max: 20, applicationName: 'test' });
  return {
    url: server.url,
    pool,
    configure: async (settings) => {
      const client = new pg.Client({ connectionString: server.url });
      await client.connect();
      for (const [name, value] of Object.entries(settings))
        await client.query(`alter system set ${name} = ${pg.escapeLiteral(value)}`);
      await client.query('select pg_reload_conf()');
      await client.end();
    },
    stop: async () => {
      await pool.end();
      await server.stop();
    },
  };
}
