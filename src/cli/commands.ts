import type { Command } from './command.ts';
import { doctorCommand } from './doctor.ts';
import { migrateCommand } from './migrate.ts';
import { serveCommand } from './serve.ts';
import { tailCommand } from './tail.ts';
import { tokenCommand } from './token.ts';
import { verifyCommand } from './verify.ts';

/** All commands, as `settlewire --help` lists them. */
export const COMMANDS: readonly Command[] = [
  serveCommand,
  migrateCommand,
  tokenCommand,
  tailCommand,
  doctorCommand,
  verifyCommand,
];
