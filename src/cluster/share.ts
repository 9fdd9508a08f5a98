import type { Config } from '../config.ts';

/** Limits on an instance as a whole; all others hold for each of its workers, or for each client. */
const DIVIDED = [
  'maxConnections',
  'maxOtherConnections',
  'rateLimitEntries',
  'replayConcurrency',
  'replayWindowBytes',
  'replayCacheBytes',
  'snapshotConcurrency',
  'snapshotWaiting',
] as const satisfies readonly (keyof Config)[];

/** The configuration of one worker: its part, rounded up, of what the instance as a whole may take. */
export function shareOf(config: Config): Config {
  const parts = DIVIDED.map((name) => [name, Math.ceil(config[name] / config.workers)] as const);
  return Object.freeze({ ...config, ...Object.fromEntries(parts) });
}
