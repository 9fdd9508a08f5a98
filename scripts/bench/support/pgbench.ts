import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { OWN_SESSION } from './own-session.ts';
import type { BenchPostgres } from './postgres.ts';

export interface Load {
  readonly database: string;
  readonly clients: number;
  /** How long is measured; one more second goes before. */
  readonly seconds: number;
  /** One transaction, in pgbench's language. */
  readonly script: string;
  /** Transactions a second to keep to; as many as it can if not given. */
  readonly rate?: number;
}

/** What pgbench is to be told to run a script of one transaction on a database. */
export function pgbenchOptions(
  postgres: BenchPostgres,
  { database, clients }: Pick<Load, 'database' | 'clients'>,
  path: string,
  seconds: number,
): string[] {
  const options = {
    h: postgres.socketDir,
    p: postgres.port,
    U: 'postgres',
    M: 'prepared',
    f: path,
    c: clients,
    j: Math.min(2, clients),
    T: seconds,
  };
  return ['-n', ...Object.entries(options).flatMap(([name, value]) => [`-${name}`, String(value)]), database];
}

/** From the progress that it prints each second. */
function tpsOf(progress: string): number {
  const perSecond = [...progress.matchAll(/^progress: .*? ([\d.]+) tps,.* (\d+) failed/gm)];
  const warm = perSecond.slice(1).map(([, tps]) => Number(tps));
  if (warm.length === 0 || perSecond.some(([, , failed]) => failed !== '0'))
    throw new Error(`pgbench did not get through:\n${progress}`);
  return warm.reduce((sum, tps) => sum + tps, 0) / warm.length;
}

/** Runs pgbench and returns transactions a second, without the first second, in which new sessions fill their caches. */
export async function pgbench(postgres: BenchPostgres, load: Load): Promise<number> {
  const dir = mkdtempSync(join(tmpdir(), 'settlewire-pgbench-'));
  try {
    const path = join(dir, 'script.sql');
    writeFileSync(path, load.script);
    const rate = load.rate === undefined ? [] : ['--rate', String(load.rate)];
    const options = pgbenchOptions(postgres, load, path, load.seconds + 1);
    const child = spawn(postgres.pgbench, ['-P', '1', ...rate, ...options], {
      ...OWN_SESSION,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    const [progress] = await Promise.all([text(child.stderr), once(child, 'close')]);
    if (child.exitCode !== 0) throw new Error(`pgbench has failed:\n${progress}`);
    return tpsOf(progress);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
