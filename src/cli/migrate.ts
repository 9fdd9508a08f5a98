import { parseKeylessConfig } from '../config.ts';
import { migrate } from '../migrate.ts';

/** `settlewire migrate`: applies pending migrations to DATABASE_URL and says which. */
export async function migrateCommand(): Promise<void> {
  const config = parseKeylessConfig();
  const set = config.migrate === 'outbox' ? 'outbox' : 'all';
  const { applied } = await migrate({ connectionString: config.databaseUrl, set });
  for (const name of applied) process.stdout.write(`applied ${name}\n`);
  if (applied.length === 0) process.stdout.write('nothing to apply\n');
}
