import { startTestServer, stopTestServer } from './database.ts';

export async function mochaGlobalSetup(): Promise<void> {
  const { url, version, source } = await startTestServer();
  // For the processes that mocha --parallel makes after this.
  process.env['SETTLEWIRE_TEST_SERVER'] = JSON.stringify({ url, version, source });
  process.env['SETTLEWIRE_TEST_RUN'] = String(process.pid);
  console.log(`test databases: PostgreSQL ${version} (${source})`);
}

export async function mochaGlobalTeardown(): Promise<void> {
  await stopTestServer();
}
