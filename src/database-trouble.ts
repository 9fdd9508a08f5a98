const ADVICE: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there: is Postgres running, and listen_addresses right?',
  ENOTFOUND: 'there is no such host: check DATABASE_URL',
  ETIMEDOUT: 'nothing answers there: check DATABASE_URL and what filters the network',
  '28P01': 'check user and password in DATABASE_URL',
  '28000': 'pg_hba.conf lets nobody in this way: add a line for this role, database and address',
  '3D000': 'there is no such database: create database …',
  '53300': 'all connections are taken: raise max_connections, or see who has them in pg_stat_activity',
};

export interface DatabaseTrouble {
  readonly says: string;
  readonly advice: string;
}

/** Why a database let nobody in, and what to do; undefined for an error of another kind. */
export function databaseTrouble(error: unknown): DatabaseTrouble | undefined {
  const { code = '', message, errors } = error as { code?: string; message?: string; errors?: Error[] };
  const advice = ADVICE[code];
  // A host with several addresses: Node gives one error for each and an empty message.
  return advice === undefined ? undefined : { says: message || errors?.[0]?.message || code, advice };
}
