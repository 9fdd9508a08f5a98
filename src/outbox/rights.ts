import pg from 'pg';

/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const INSUFFICIENT_PRIVILEGE = '42501';

export class RightsError extends Error {
  override readonly name = 'RightsError';
}

/**
 * Sees that the role of this URL may do what serving takes (migrations/0008). Says nothing of a database without the list: its
 * migrations are missing.
 * @throws RightsError that names each right that is missing, and how to give them
 */
export async function checkRights(connectionString: string): Promise<void> {
  const client = new pg.Client({ connectionString, application_name: 'settlewire' });
  // A connection that breaks fails the query at hand; without a listener it would end the process.
  client.on('error', () => {});
  await client.connect();
  try {
    await check(client);
  } finally {
    await client.end();
  }
}

async function check(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ role: string; listed: boolean }>(
    `select current_user as role, to_regprocedure('outbox_missing_rights()') is not null as listed`,
  );
  const { role = '', listed = false } = rows[0] ?? {};
  if (!listed) return;
  const missing = await missingRights(client);
  if (missing.length > 0)
    throw new RightsError(
      `the database role "${role}" may not do what the service needs: ${missing.join('; ')}. ` +
        `As the owner of the outbox: select outbox_grant_service('${role.replaceAll("'", "''")}')`,
    );
}

/** What the role of this session lacks of the list, as the list says it; empty: it can serve. */
export async function missingRights(client: pg.Client): Promise<string[]> {
  try {
    const { rows } = await client.query<{ missing: string }>(
      'select missing from outbox_missing_rights() as missing',
    );
    return rows.map(({ missing }) => missing);
  } catch (error) {
    // It may not even ask.
    const { code, message } = error as { code?: string; message: string };
    if (code === INSUFFICIENT_PRIVILEGE) return [message];
    throw error;
  }
}
