const FIRST_MS = 100;
const LONGEST_MS = 30_000;

/** How long to wait before the next attempt, after so many in a row have failed: twice as long each time, half a minute at most. */
export function backoffMs(failures: number): number {
  return Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(failures - 1, 20));
}
