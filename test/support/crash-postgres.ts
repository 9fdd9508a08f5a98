import pg from 'pg';
import { waitFor } from './wait-for.ts';

/**
 * Makes the whole cluster crash and recover: a backend that dies by SIGKILL makes the postmaster end all others and replay
 * the WAL. Every connection of the run breaks. Resolves when connections are taken again; needs a superuser's URL.
 */
export async function crashPostgres(url: string): Promise<void> {
  const before = await checkpointerPid(url);
  const victim = await connect(url);
  await victim.query("copy (select 1) to program 'kill -9 $PPID'").then(
    () => Promise.reject(new Error('the backend survived its own kill -9')),
    () => {},
  );
  await victim.end().catch(() => {});
  // For a moment after the kill the postmaster still takes connections of the doomed generation.
  await waitFor(async () => (await checkpointerPid(url)) !== before, {
    what: 'crash recovery',
    timeoutMs: 15_000,
  });
}

async function checkpointerPid(url: string): Promise<number> {
  const client = await connect(url);
  try {
    const { rows } = await client.query<{ pid: number }>(
      "select pid from pg_stat_activity where backend_type = 'checkpointer'",
    );
    if (!rows[0]) throw new Error('no checkpointer yet');
    return rows[0].pid;
  } finally {
    await client.end().catch(() => {});
  }
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({
    connectionString: url,
    application_name: 'crash',
    connectionTimeoutMillis: 5000,
  });
  client.on('error', () => {});
  await client.connect();
  return client;
}
