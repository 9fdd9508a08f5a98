import pg from 'pg';
import { startTestServer } from './database.ts';

/**
 * Takes a database away from its services: their connections are cut and new ones refused, those of the test itself stay.
 * @returns what brings it back
 */
export async function takeAway(url: string): Promise<() => Promise<void>> {
  const name = new URL(url).pathname.slice(1);
  const admin = new pg.Client({ connectionString: (await startTestServer()).url });
  await admin.connect();
  await admin.query(`alter database ${name} allow_connections false`);
  await admin.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and application_name <> 'test'`,
    [name],
  );
  return async () => {
    await admin.query(`alter database ${name} allow_connections true`);
    await admin.end();
  };
}
