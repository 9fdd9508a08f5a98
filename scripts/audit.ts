/*
 * Known advisories against what package-lock.json installs, as the registry's advisory service tells them:
 *
 *   npm run audit
 *
 * Exits with 0 if there are none, with 1 if there are, and with 2 if the service could not be asked: then nothing is known, which is
 * not the same as nothing being wrong. `npm audit` itself does not tell the last two apart by its exit code.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

interface Vulnerability {
  readonly name: string;
  readonly severity: string;
  readonly range: string;
  readonly via: readonly (string | { readonly title: string; readonly url: string })[];
}

interface Report {
  readonly vulnerabilities?: Readonly<Record<string, Vulnerability>>;
  readonly metadata?: { readonly dependencies: { readonly total: number } };
  readonly message?: string;
}

/** What npm says, whatever its exit code. */
async function ask(): Promise<Report> {
  const args = [
    'audit',
    '--json',
    '--fetch-retries=1',
    '--fetch-retry-mintimeout=1000',
    '--fetch-timeout=20000',
  ];
  const { stdout } = await run('npm', args, { maxBuffer: 64 * 1024 * 1024 }).catch(
    (error: { stdout?: string }) => ({ stdout: error.stdout ?? '' }),
  );
  try {
    return JSON.parse(stdout) as Report;
  } catch {
    return { message: stdout.trim() || 'npm said nothing' };
  }
}

const { vulnerabilities, metadata, message } = await ask();
if (vulnerabilities === undefined || metadata === undefined) {
  console.log(`NOT CHECKED: the advisory service could not be asked (${message ?? 'no reason given'}).`);
  console.log('This says nothing about the dependencies. Run it again where the registry answers.');
  process.exitCode = 2;
} else {
  const found = Object.values(vulnerabilities);
  console.log(`${metadata.dependencies.total} packages checked, ${found.length} with known advisories`);
  for (const { name, severity, range, via } of found) {
    const reasons = via.map((reason) =>
      typeof reason === 'string' ? `through ${reason}` : `${reason.title} ${reason.url}`,
    );
    console.log(`${severity}: ${`${name} ${range}`.trim()}: ${reasons.join('; ')}`);
  }
  process.exitCode = found.length === 0 ? 0 : 1;
}
