import { randomBytes } from 'node:crypto';
import pg from 'pg';

const ROLE = 'settlewire_service';

/**
 * Makes the role that the service connects as to a database of its own, with a new password each time, and gives it its rights
 * (migrations/0008). The owner's URL is for migrations, the demo and people.
 * @param ownerUrl superuser's URL of a migrated database; of an empty one the role can do nothing
 * @returns the service's URL of the same database
 */
export async function openServiceRole(ownerUrl: string): Promise<string> {
  const password = randomBytes(24).toString('base64url');
  const client = new pg.Client({ connectionString: ownerUrl, application_name: 'settlewire' });
  client.on('error', () => {});
  await client.connect();
  try {
    const { rowCount } = await client.query('select from pg_roles where rolname = $1', [ROLE]);
    await client.query(`${rowCount === 0 ? 'create' : 'alter'} role ${ROLE} login password '${password}'`);
    const { rows } = await client.query<{ migrated: boolean }>(
      `select to_regprocedure('outbox_grant_service(name)') is not null as migrated`,
    );
    if (rows[0]?.migrated) await client.query('select outbox_grant_service($1)', [ROLE]);
  } finally {
    await client.end();
  }
  const url = new URL(ownerUrl);
  url.username = ROLE;
  url.password = password;
  return url.href;
}
