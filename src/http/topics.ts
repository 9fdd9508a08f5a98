import type { Request } from 'express';
import { parseTopic } from '../access/topics.ts';
import type { Config } from '../config.ts';
import { Problem } from './errors.ts';

/**
 * The topics that a request names in its query, `?topic=…&topic=…`, in their normal form, each once.
 * @returns undefined if it names none
 * @throws TopicError, or Problem too_many_topics
 */
export function namedTopics(
  { query }: Request,
  { maxTopicsPerConnection }: Pick<Config, 'maxTopicsPerConnection'>,
): string[] | undefined {
  const parameter = query['topic'];
  if (parameter === undefined) return undefined;
  const texts = Array.isArray(parameter) ? parameter : [parameter];
  if (texts.length > maxTopicsPerConnection) {
    throw new Problem('too_many_topics', `At most ${maxTopicsPerConnection} topics at a time.`);
  }
  return [...new Set(texts.map((text) => parseTopic(String(text))))];
}
