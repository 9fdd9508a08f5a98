import type { AccessChange } from '../outbox/access-change.ts';
import type { Membership } from './actor.ts';
import type { Resume } from './resume-token.ts';

/*
 * Membership without the database.
 *
 * At the moment S at which the stream was let in, the actor could see every topic that it named. `asOf` is the id up to which the
 * relay had read when it asked, so S is no earlier. Every access event after `asOf` is applied to what was true at S: those
 * up to S once more, which changes nothing, since the last event of a topic up to S says what was true at S.
 *
 * That gives the topics of now. Those at the client's cursor follow from them as ever (`topicsAtCursor`), and need the access
 * events after the cursor. So all access events after the lower of the two must be at hand, and none of them may say that the
 * actor is somebody else now or that the credential is worth nothing. Where that does not hold the database decides.
 */

/** A frame of the replay window, as far as it matters here. */
interface AccessFrame {
  readonly id: number;
  readonly topic: string;
  readonly access?: AccessChange;
}

/**
 * @param resume of a stream of these topics in this epoch
 * @param named the topics that are asked for
 * @param after where the stream is to start
 * @param frames all frames after the lower of `after` and `resume.asOf`, up to now
 * @returns the membership as of now with the changes after `after`; undefined if only the database can tell
 */
export function resumedMembership(
  { claims, actor, seesAll, own, credentialTopics, asOf }: Resume,
  named: readonly string[],
  after: number,
  frames: readonly AccessFrame[],
): Membership | undefined {
  const topics = new Set(named);
  const changes: Membership['changes'][number][] = [];
  for (const { id, topic, access } of frames) {
    if (access === undefined || !(own.includes(topic) || credentialTopics.includes(topic))) continue;
    if (!own.includes(topic) || !isPlain(access, own)) return undefined;
    if (id > asOf && access.kind === 'granted') topics.add(access.topic);
    if (id > asOf && access.kind === 'revoked') topics.delete(access.topic);
    if (id > after) changes.push({ id, ...access });
  }
  return {
    actor: { ...actor, isActive: true },
    seesAll,
    own,
    topics,
    changes,
    credential: { topics: credentialTopics, issuedAt: claims.issuedAt },
    oldest: after,
  };
}

/** Whether it is about one topic that is not the actor themselves. */
function isPlain(
  access: AccessChange,
  own: readonly string[],
): access is Extract<AccessChange, { topic: string }> {
  return 'topic' in access && !access.topic.startsWith('user:') && !own.includes(access.topic);
}
