export interface WaitOptions {
  /** What is waited for, as the time-out message says it; a function is asked only then. */
  readonly what: string | (() => string);
  readonly timeoutMs?: number;
  /** Between two looks; longer where a look costs much. */
  readonly intervalMs?: number;
}

/**
 * Polls every few milliseconds until the condition returns something truthy, and returns that. An error thrown by the
 * condition counts as "not yet" and is the cause of the time-out's error.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  { what, timeoutMs = 15_000, intervalMs = 3 }: WaitOptions,
): Promise<NonNullable<T>> {
  const deadline = performance.now() + timeoutMs;
  let lastError: unknown;
  do {
    try {
      const value = await condition();
      if (value) return value;
      lastError = undefined;
    } catch (error) {
      lastError = error;
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  } while (performance.now() < deadline);
  throw new Error(`waited ${timeoutMs} ms in vain for ${typeof what === 'string' ? what : what()}`, {
    cause: lastError,
  });
}
