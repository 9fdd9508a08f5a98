#!/usr/bin/env node
import { migrateCommand } from './cli/migrate.ts';
import { serveCommand } from './cli/serve.ts';
import { VERIFY_HELP, verifyCommand } from './cli/verify.ts';

const HELP = `settlewire: payment-stream, settlement and escrow changes, live.

Usage: settlewire <command>

Commands:
  serve     Run the service. Without DATABASE_URL: with a Postgres of its own, demo data and a dashboard.
  migrate   Apply pending migrations to DATABASE_URL and exit. MIGRATE=outbox: only the outbox's own.
  verify    Show that running instances deliver every event once and in order. See settlewire verify --help.

Settings are environment variables; a bad one is named at start.
`;

const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  serve: serveCommand,
  migrate: migrateCommand,
  verify: verifyCommand,
};

const [name = 'help', ...rest] = process.argv.slice(2);
const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
if (['help', '--help', '-h'].includes(name) || rest.includes('--help')) {
  process.stdout.write(name === 'verify' ? VERIFY_HELP : HELP);
} else if (command === undefined) {
  process.stderr.write(`settlewire: there is no command ${JSON.stringify(name)}\n\n${HELP}`);
  process.exitCode = 2;
} else {
  command(rest).catch((error: unknown) => {
    for (const line of String(error instanceof Error ? error.message : error).split('\n')) {
      process.stderr.write(`settlewire: ${line}\n`);
    }
    process.exitCode = 1;
  });
}
