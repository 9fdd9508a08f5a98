import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { BenchPostgres } from './postgres.ts';

const run = promisify(execFile);

export interface Load {
  readonly database: string;
  readonly clients: number;
  readonly seconds: number;
  /** One transaction, in pgbench's language. */
  readonly script: string;
  /** Transactions a second to keep to; as many as it can if not given. */
  readonly rate?: number;
}

function options(postgres: BenchPostgres, load: Load, path: string): string[] {
  const { database, clients, seconds, rate } = load;
  return [
    ...[
      '-h',
      postgres.socketDir,
      '-p',
      String(postgres.port),
      '-U',
      'postgres',
      '-n',
      '-M',
      'prepared',
      '-f',
      path,
    ],
    ...['-c', String(clients), '-j', String(Math.min(2, clients)), '-T', String(seconds)],
    ...(rate === undefined ? [] : ['--rate', String(rate)]),
    database,
  ];
}

function tpsOf(output: string): number {
  const failed = /number of failed transactions: ([1-9]\d*)/.exec(output);
  const tps = /tps = ([\d.]+)/.exec(output)?.[1];
  if (tps === undefined || failed !== null) throw new Error(`pgbench did not get through:\n${output}`);
  return Number(tps);
}

/** Runs pgbench and returns transactions a second, connecting left out. */
export async function pgbench(postgres: BenchPostgres, load: Load): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'settlewire-pgbench-'));
  try {
    const path = join(dir, 'script.sql');
    writeFileSync(path, load.script);
    const { stdout } = await run(join(postgres.bindir, 'pgbench'), options(postgres, load, path));
    return tpsOf(stdout);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
