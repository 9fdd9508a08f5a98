/** Until the server has said anything, in milliseconds. */
export const FIRST_RETRY_MS = 2000;
export const LONGEST_PAUSE_MS = 30_000;
/** Whatever a server says: nobody stays away for longer. */
const LONGEST_MS = 300_000;

/** Resolves after so many milliseconds, or when the signal is aborted. */
export function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
    if (signal.aborted) resolve();
  });
}

/**
 * How long to wait before the next attempt, in milliseconds. Never less than the server said; from the second failure in a row
 * on twice as long each time, and spread out, so that those who failed together do not come back together.
 * @param failures attempts in a row that have not led to a live stream
 * @param retryMs the last `retry:`
 * @param atLeastMs `retryAfterMs` or `Retry-After`
 * @param random from 0 up to 1
 * @param longestMs to which the pause may grow by itself
 */
export function pauseMs(
  failures: number,
  retryMs: number,
  atLeastMs: number,
  random: number,
  longestMs = LONGEST_PAUSE_MS,
): number {
  const grown = Math.min(retryMs * 2 ** Math.max(0, failures - 1), longestMs) * (0.5 + random / 2);
  return Math.min(Math.max(grown, retryMs, atLeastMs), LONGEST_MS);
}
