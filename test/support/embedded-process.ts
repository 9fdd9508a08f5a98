/*
 * A process that owns an embedded Postgres, to be killed by tests: `node embedded-process.ts DATA_DIR`. It prints one JSON
 * line when ready, and on SIGINT or SIGTERM asks its database something, prints the answer, and stops it; SIGUSR2 makes it
 * exit without stopping anything.
 */
import pg from 'pg';
import { startEmbeddedPostgres } from '../../src/embedded/embedded-postgres.ts';

const [, , dataDir = ''] = process.argv;

async function main(): Promise<void> {
  const server = await startEmbeddedPostgres({ dataDir, log: () => {} });
  const leave = async () => {
    const client = new pg.Client({ connectionString: server.url });
    await client.connect();
    const { rows } = await client.query('select count(*)::int as kept from pg_tables where tablename = $1', [
      'kept',
    ]);
    await client.end();
    console.log(JSON.stringify(rows[0]));
    await server.stop();
    process.exit(0);
  };
  process.once('SIGINT', leave).once('SIGTERM', leave);
  process.once('SIGUSR2', () => process.exit(3));
  console.log(JSON.stringify({ url: server.url, pid: server.pid }));
}

main().catch((error: unknown) => {
  console.log(JSON.stringify({ error: String(error) }));
  process.exit(1);
});
