import type { ServiceProcess } from './service-process.ts';

/** A line of a service's log. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string };

/** What a service has logged so far, whole lines. */
export function logOf({ stderr }: Pick<ServiceProcess, 'stderr'>): LogLine[] {
  return stderr
    .split('\n')
    .slice(0, -1)
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line));
}

/** The process ids of the workers that have become ready, in that order; of a service that logs at `info`. */
export function workerPids(service: Pick<ServiceProcess, 'stderr'>): number[] {
  return logOf(service)
    .filter(({ msg }) => msg === 'worker ready')
    .map(({ pid }) => Number(pid));
}

/** Whether a process is there. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
