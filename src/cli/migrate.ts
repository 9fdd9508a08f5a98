import { parseKeylessConfig } from '../config.ts';
import { migrate } from '../migrate.ts';
import { type Command, EXIT, readArguments } from './command.ts';
import { databaseTrouble } from './database-trouble.ts';

export const migrateCommand: Command = {
  name: 'migrate',
  summary: 'Apply pending migrations to DATABASE_URL.',
  help: `settlewire migrate: applies pending migrations to DATABASE_URL and says which.

Usage: settlewire migrate [options]

  --json   {"applied":["0001_outbox_tables",…]}
  --help   This text.

MIGRATE=outbox applies only the outbox's own, for a database whose tables and triggers are yours. Each file is a transaction; of
several that migrate at once one does it, and the others wait. A file that was edited after it was applied is refused.
DATABASE_URL needs a role that may create tables. serve does the same at start, unless MIGRATE is off.

Exit codes: 0 applied, or nothing to apply; 1 not applied; 2 the command line is wrong.
`,
  run: async (args) => {
    const { values } = readArguments('migrate', { args: [...args], options: { json: { type: 'boolean' } } });
    const config = parseKeylessConfig();
    const set = config.migrate === 'outbox' ? 'outbox' : 'all';
    const { applied } = await migrate({ connectionString: config.databaseUrl, set }).catch((error) => {
      throw databaseTrouble(error, config.databaseUrl);
    });
    if (values.json) process.stdout.write(`${JSON.stringify({ applied })}\n`);
    else if (applied.length === 0) process.stdout.write('nothing to apply\n');
    else for (const name of applied) process.stdout.write(`applied ${name}\n`);
    return EXIT.done;
  },
};
