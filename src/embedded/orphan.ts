import { readlinkSync, realpathSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { EmbeddedPostgresError } from './data-dir-lock.ts';
import { processCommand, processStartTime } from './process-identity.ts';

const FAST_SHUTDOWN_MS = 20_000;
const IMMEDIATE_SHUTDOWN_MS = 10_000;

/**
 * Ends the server that a killed settlewire left running on this cluster. Call it only while holding the data directory.
 * @returns the pid of the server that was ended, or null if there was none.
 */
export async function stopOrphan(clusterDir: string): Promise<number | null> {
  const pidFile = join(clusterDir, 'postmaster.pid');
  const content = await readFile(pidFile, 'utf8').catch(() => '');
  const pid = Math.abs(Number.parseInt(content, 10));
  if (!(pid > 0)) return null;
  const started = processStartTime(pid);
  if (started === null || !servesCluster(pid, clusterDir)) {
    // A zombie that no init reaps, or an unrelated process that was given the pid since: Postgres would stumble over either.
    // It takes its own parent's pid for a leftover, and still looks at the shared memory that a dead server may have left.
    await writeFile(pidFile, content.replace(/^-?\d+/, String(process.pid)));
    return null;
  }
  if (await ended(pid, started, 'SIGINT', FAST_SHUTDOWN_MS)) return pid;
  if (await ended(pid, started, 'SIGQUIT', IMMEDIATE_SHUTDOWN_MS)) return pid;
  throw new EmbeddedPostgresError(
    `a leftover Postgres, process ${pid}, does not stop: end it, then start again`,
  );
}

function servesCluster(pid: number, clusterDir: string): boolean {
  if (!/postgres/.test(processCommand(pid))) return false;
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(clusterDir);
    /* c8 ignore next 4 -- only where there is no /proc */
  } catch {
    // No /proc: the command line names the directory.
    return processCommand(pid).includes(clusterDir);
  }
}

async function ended(
  pid: number,
  started: string,
  signal: NodeJS.Signals,
  withinMs: number,
): Promise<boolean> {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended by itself just now, or is not ours to end; the loop tells which.
  }
  const deadline = performance.now() + withinMs;
  while (processStartTime(pid) === started) {
    if (performance.now() > deadline) return false;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return true;
}
