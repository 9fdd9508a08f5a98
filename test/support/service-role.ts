import { readFile } from 'node:fs/promises';
import pg from 'pg';

/** Names this run of mocha, in all of its processes. */
export const RUN = process.env['SETTLEWIRE_TEST_RUN'] ?? String(process.pid);

/** Every service under test connects as this role, which scripts/service-role.sql makes. One name per run: roles belong to the server. */
export const SERVICE_ROLE = `settlewire_service_${RUN}_${process.pid}`;
const PASSWORD = 'the password of a test';

const SCRIPT = new URL('../../scripts/service-role.sql', import.meta.url);

/** The same database, as the service's role. */
export function asService(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  url.username = SERVICE_ROLE;
  url.password = encodeURIComponent(PASSWORD);
  return url.href;
}

/**
 * Makes the role on a server that has none, and gives it its rights in this database, as an operator does after a migration.
 * @param ownerUrl of a superuser
 */
export async function grantService(ownerUrl: string): Promise<void> {
  const client = new pg.Client({ connectionString: ownerUrl, application_name: 'test administration' });
  await client.connect();
  try {
    await client.query(`set settlewire.service_role = '${SERVICE_ROLE}'`);
    await client.query(await readFile(SCRIPT, 'utf8'));
    await client.query(`alter role ${SERVICE_ROLE} password '${PASSWORD}'`);
  } finally {
    await client.end();
  }
}
