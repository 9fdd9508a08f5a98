import type { RequestHandler } from 'express';
import { Problem } from './errors.ts';

/** The query parameters that a `/v1` path may know. */
const PARAMETERS = ['topic', 'lastEventId', 'ticket', 'resume'];
const BY_SOUND = new Map(PARAMETERS.map((name) => [sound(name), name]));

/**
 * Refuses parameters that are ours but for their spelling, such as `topics` or `topic[]`, which some clients make of a list: taken
 * for one that nobody knows, and ignored, a stream of everything would begin, or one with a gap.
 */
export const spelling: RequestHandler = ({ query }, _response, next) => {
  for (const name of Object.keys(query)) {
    const meant = BY_SOUND.get(sound(name));
    if (meant !== undefined && meant !== name)
      throw new Problem('bad_request', `The query parameter is ${meant}, once for each value.`);
  }
  next();
};

function sound(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^a-z]/g, '')
    .replace(/s$/, '');
}
