import { once } from 'node:events';
import { createServer } from 'node:net';

/** What a reader of the pages would have in the environment: a database of their own, free ports, a key. */
export async function bookEnvironment(databaseUrl: string): Promise<Record<string, string>> {
  const [port, adminPort] = await Promise.all([freePort(), freePort()]);
  return {
    DATABASE_URL: databaseUrl,
    JWT_SECRET: 'a secret of the pages, and of nobody else, 48 bytes.',
    PORT: String(port),
    ADMIN_PORT: String(adminPort),
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}
