#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { COMMANDS } from './cli/commands.ts';
import { runCommand } from './cli/main.ts';

// Whoever reads us, such as head, may have had enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit();
  throw error;
});

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
process.exitCode = await runCommand(COMMANDS, process.argv.slice(2), {
  version,
  stdout: process.stdout,
  stderr: process.stderr,
});
