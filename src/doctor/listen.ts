import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { Client } from 'pg';
import { type Finding, fail, ok, warn } from './finding.ts';

const CHANNEL = 'settlewire_doctor';

interface Identity {
  readonly pid: number;
  readonly system: string;
  readonly database: string;
}

/**
 * Rings a bell of our own from one session and waits for it on another, made as the service makes its listening one.
 * @param client on DATABASE_URL
 * @param patienceMs for the ring
 */
export async function checkListen(
  client: Client,
  { url, patienceMs }: { url: string; patienceMs: number },
): Promise<Finding[]> {
  const listener = new Client({
    connectionString: url,
    application_name: 'settlewire doctor',
    connectionTimeoutMillis: 5000,
  });
  listener.on('error', () => {});
  const advice =
    'LISTEN and session locks need a direct connection, or a pooler in session mode: set LISTEN_DATABASE_URL to Postgres itself';
  try {
    await listener.connect();
    const [here, there] = [await identify(client), await identify(listener)];
    if (here.system !== there.system || here.database !== there.database)
      return [
        fail(
          'listen',
          'LISTEN_DATABASE_URL is another database than DATABASE_URL',
          'name the same one in both',
        ),
      ];
    // A pooler makes up the process id that it tells at the beginning.
    const { processID } = listener as Client & { readonly processID: number | null };
    const pooled = processID !== there.pid;
    const heard = await rings(client, listener, patienceMs);
    if (!heard)
      return [fail('listen', `a NOTIFY does not arrive${pooled ? ', through a pooler' : ''}`, advice)];
    if (pooled) return [warn('listen', 'goes through a pooler; this NOTIFY arrived', advice)];
    return [ok('listen', 'a NOTIFY arrives, on a direct connection')];
  } catch (error) {
    return [fail('listen', `LISTEN_DATABASE_URL: ${(error as Error).message}`, advice)];
  } finally {
    await listener.end().catch(() => {});
  }
}

async function identify(client: Client): Promise<Identity> {
  const { rows } = await client.query<Identity>(
    `select pg_backend_pid() as pid, (select system_identifier::text from pg_control_system()) as system, current_database() as database`,
  );
  return rows[0] ?? { pid: 0, system: '', database: '' };
}

async function rings(client: Client, listener: Client, patienceMs: number): Promise<boolean> {
  const payload = randomUUID();
  const patience = AbortSignal.timeout(patienceMs);
  await listener.query(`listen ${CHANNEL}`);
  const heard = (async () => {
    for (;;) {
      const [message] = await once(listener, 'notification', { signal: patience });
      if (message.payload === payload) return true;
    }
  })().catch(() => false);
  await client.query('select pg_notify($1, $2)', [CHANNEL, payload]);
  return heard;
}
