const ADVICE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: is Postgres running, and listen_addresses right?',
  ENOTFOUND: 'there is no such host: check DATABASE_URL',
  ETIMEDOUT: 'nothing answers there: check DATABASE_URL and what filters the network',
  '28P01': 'check user and password in DATABASE_URL',
  '28000': 'pg_hba.conf lets nobody in this way: add a line for this role, database and address',
  '3D000': 'there is no such database: create database …',
  '53300': 'all connections are taken: raise max_connections, or see who has them in pg_stat_activity',
};

/** Why a database let nobody in, and what to do. */
export function whyNoConnection(error: unknown): { says: string; advice: string } {
  const { code = '', message, errors } = error as { code?: string; message?: string; errors?: Error[] };
  // A host with several addresses: Node gives one error for each and an empty message.
  const says = message || errors?.[0]?.message || code || String(error);
  return { says, advice: ADVICE[code] ?? 'check DATABASE_URL' };
}
