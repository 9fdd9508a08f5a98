import type { Command } from './command.ts';

/** `settlewire --help`. */
export function overview(commands: readonly Command[]): string {
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(9)} ${summary}`);
  return `settlewire: payment-stream, settlement and escrow changes, from a committed Postgres row to whoever they belong to.

Usage: settlewire <command> [options]

${lines.join('\n')}

settlewire <command> --help tells more. Settings are environment variables; a bad one is named at start.

Begin with:  settlewire serve     a Postgres of its own, demo data, a dashboard link and a curl line that work
Then:        DATABASE_URL=postgres://… JWT_SECRET=… settlewire serve

Exit codes: 0 done; 1 not done, or found wanting; 2 the command line is wrong. doctor: 0 well, 1 warnings, 2 something is broken.
`;
}
