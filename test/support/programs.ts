import { accessSync, constants } from 'node:fs';

/** Where a program is that no npm package brings; undefined where it is not installed. */
export function findProgram(name: string): string | undefined {
  return (process.env.PATH ?? '')
    .split(':')
    .concat('/usr/sbin', '/sbin')
    .map((dir) => `${dir}/${name}`)
    .find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Leaves the test out, and says so, where a program that it needs is not installed: `npm test` asks for Node and npm only. With REQUIRE_PROGRAMS,
 * which `.ci/run` sets, it fails instead.
 */
export function needPrograms(test: Mocha.Context, ...names: readonly string[]): void {
  const missing = names.filter((name) => findProgram(name) === undefined);
  if (missing.length === 0) return;
  const message = `not installed: ${missing.join(', ')}`;
  if (process.env.REQUIRE_PROGRAMS !== undefined) throw new Error(message);
  console.log(`      NOT RUN: ${message}`);
  test.skip();
}
