import { startTestServer, stopTestServer } from './database.ts';

export async function mochaGlobalSetup(): Promise<void> {
  const { version, source } = await startTestServer();
  console.log(`test databases: PostgreSQL ${version} (${source})`);
}

export async function mochaGlobalTeardown(): Promise<void> {
  await stopTestServer();
}
