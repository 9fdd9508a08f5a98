import type { Request } from 'express';
import { parseTopic } from '../access/topics.ts';
import type { Config } from '../config.ts';
import { Problem } from './errors.ts';

type Bound = Pick<Config, 'maxTopicsPerConnection'>;

/**
 * The topics that a request names in its query, `?topic=…&topic=…`, as {@link parseTopics} returns them.
 * @returns undefined if it names none
 * @throws TopicError, or Problem too_many_topics
 */
export function namedTopics({ query }: Request, bound: Bound): string[] | undefined {
  const parameter = query['topic'];
  if (parameter === undefined) return undefined;
  return parseTopics((Array.isArray(parameter) ? parameter : [parameter]).map(String), bound);
}

/**
 * @returns the topics in their normal form, each once
 * @throws TopicError, or Problem too_many_topics
 */
export function parseTopics(texts: readonly string[], { maxTopicsPerConnection }: Bound): string[] {
  if (texts.length > maxTopicsPerConnection) {
    throw new Problem('too_many_topics', `At most ${maxTopicsPerConnection} topics at a time.`);
  }
  return [...new Set(texts.map(parseTopic))];
}
