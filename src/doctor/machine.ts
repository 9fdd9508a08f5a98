import { readFile } from 'node:fs/promises';
import type { Config } from '../config.ts';
import { type Finding, fail, ok, warn } from './finding.ts';

/** Descriptors besides those of clients: libraries, logs, the database, the admin port. */
const SPARE_FILES = 100;

/**
 * @param limits the text of /proc/self/limits
 * @param maxConnections of one process
 */
export function gradeOpenFiles(limits: string, maxConnections: number): Finding[] {
  // Node raises its soft limit to the hard one.
  const [, hard] = /^Max open files +\S+ +(\S+)/m.exec(limits) ?? [];
  if (hard === undefined) return [];
  const needed = maxConnections + SPARE_FILES;
  if (hard !== 'unlimited' && Number(hard) < needed)
    return [
      warn(
        'open files',
        `${hard} here, and MAX_CONNECTIONS (${maxConnections}) needs ${needed}`,
        'raise it (ulimit -Hn, LimitNOFILE= in systemd, --ulimit nofile= in Docker), or lower MAX_CONNECTIONS',
      ),
    ];
  return [ok('open files', `${hard} here, enough for MAX_CONNECTIONS (${maxConnections})`)];
}

/** Nothing where the system does not tell. */
export async function checkOpenFiles({
  maxConnections,
  workers,
}: Pick<Config, 'maxConnections' | 'workers'>): Promise<Finding[]> {
  const share = Math.ceil(maxConnections / workers);
  return gradeOpenFiles(await readFile('/proc/self/limits', 'utf8').catch(() => ''), share);
}

/** Whether an instance answers, and is ready. */
export async function checkInstance(url: string): Promise<Finding> {
  const check = 'instance';
  try {
    const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(5000) });
    const text = await response.text();
    if (response.status === 200) return ok(check, `${url} is ready`);
    const status = /"status":"(\w+)"/.exec(text)?.[1];
    if (status === undefined)
      return fail(check, `${url} is no settlewire: ${response.status} from /readyz`, 'check the URL');
    return fail(
      check,
      `${url} is ${status}`,
      status === 'draining'
        ? 'it is stopping; ask another'
        : 'its log says what it waits for; so may the lines above',
    );
  } catch (error) {
    const { message, cause } = error as Error & { cause?: { code?: string; message?: string } };
    return fail(
      check,
      `${url} does not answer: ${cause?.code ?? cause?.message ?? message}`,
      'is it running, and is the URL right?',
    );
  }
}
