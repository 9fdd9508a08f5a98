import { whyNoConnection } from '../database-advice.ts';

/** SQLSTATE classes and codes of a connection that cannot be had: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const UNREACHABLE =
  /^(08...|28...|3D000|57P0.|53300|ECONN.*|E(HOST|NET)UNREACH|ENOTFOUND|EAI_AGAIN|ETIMEDOUT)$/;
const DENIED = '42501';

/**
 * What a command says if the database is what it failed for: where that is, the reason, and what to do.
 * @param databaseUrl what was connected to; its user and password are not told
 * @returns the error itself, if it is of another kind
 */
export function databaseTrouble(error: unknown, databaseUrl: string): unknown {
  const { code, message } = error as { code?: unknown; message?: string };
  if (typeof code !== 'string') return error;
  if (code === DENIED)
    return new Error(
      `the role of DATABASE_URL may not do this: ${message}. If migrations are pending: settlewire migrate, as the owner of the outbox`,
      { cause: error },
    );
  if (!UNREACHABLE.test(code)) return error;
  const { says, advice } = whyNoConnection(error);
  return new Error(`DATABASE_URL: no connection to ${placeOf(databaseUrl)}: ${says}; ${advice}`, {
    cause: error,
  });
}

function placeOf(databaseUrl: string): string {
  if (!URL.canParse(databaseUrl)) return 'the database';
  const { host, pathname } = new URL(databaseUrl);
  return `${host}${pathname}`;
}
