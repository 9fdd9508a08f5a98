import type { Pool } from 'pg';
import { whyNoConnection } from '../database-advice.ts';
import { VerifyError } from './follower.ts';
import { publish } from './writers.ts';

/** SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const UNDEFINED = new Set(['42883', '42P01', '3F000']);
const DENIED = '42501';
const READ_ONLY = '25006';

/**
 * Publishes an event and takes it back, to see that it can be done.
 * @returns the epoch of the outbox
 * @throws VerifyError if the database cannot be reached, has no outbox, or lets this role not write to it
 */
export async function checkDatabase(pool: Pool, topic: string, run: string): Promise<string> {
  try {
    const client = await pool.connect();
    try {
      await client.query('begin');
      await publish(client, topic, { run, number: 0 });
      const { rows } = await client.query('select epoch from outbox_meta');
      await client.query('select id from outbox limit 1');
      return String(rows[0]?.epoch);
    } finally {
      await client.query('rollback');
      client.release();
    }
  } catch (error) {
    throw new VerifyError(inWords(error), { cause: error });
  }
}

function inWords(error: unknown): string {
  const { code, message } = error as { code?: string; message?: string };
  if (code !== undefined && UNDEFINED.has(code))
    return 'there is no outbox in this database (or not in its search_path): run settlewire migrate';
  if (code === DENIED)
    return `this role may not publish or read events (${message}): use the owner of the outbox`;
  if (code === READ_ONLY)
    return 'the database is read-only, perhaps a standby: events are written on the primary';
  const { says, advice } = whyNoConnection(error);
  return `cannot reach the database: ${says}; ${advice}`;
}

/**
 * @param epoch of the database that is written to
 * @throws VerifyError if the instance cannot be reached, is not ready, refuses the token or follows another database
 */
export async function checkInstance(url: string, token: string, epoch: string): Promise<void> {
  const readiness = await get(`${url}/readyz`);
  if (readiness.status !== 200)
    throw new VerifyError(`${url} is not ready: ${readiness.status} from /readyz`);
  const answer = await get(`${url}/v1/cursor`, token);
  const body = (await answer.json().catch(() => ({}))) as { code?: string; detail?: string; epoch?: string };
  if (answer.status === 401 || answer.status === 403)
    throw new VerifyError(
      `${url} refuses the token: ${answer.status} ${body.code ?? ''}: ${body.detail ?? ''}` +
        (answer.status === 403
          ? ' With AUTHORIZE_FUNCTION give the --token of somebody whom it lets in.'
          : ''),
    );
  if (answer.status !== 200 || body.epoch === undefined)
    throw new VerifyError(`${url} is no settlewire: ${answer.status} from /v1/cursor`);
  if (body.epoch !== epoch)
    throw new VerifyError(`${url} follows another database than DATABASE_URL, or an earlier epoch of it`);
}

/**
 * @returns whether the instance lets this token follow the topic
 * @throws VerifyError if it cannot be reached
 */
export async function maySee(url: string, topic: string, token: string): Promise<boolean> {
  const answer = await get(`${url}/v1/events?topic=${encodeURIComponent(topic)}`, token);
  await answer.body?.cancel();
  return answer.status === 200;
}

async function get(url: string, token?: string): Promise<Response> {
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  try {
    return await fetch(url, { headers, signal: AbortSignal.timeout(10_000) });
  } catch (error) {
    const { cause, message } = error as { cause?: { message?: string; code?: string }; message: string };
    throw new VerifyError(`cannot reach ${url}: ${cause?.message || cause?.code || message}`, {
      cause: error,
    });
  }
}
