import type { RequestHandler } from 'express';
import { maySee } from '../access/actor.ts';
import type { MembershipSource } from '../access/look-up.ts';
import { SnapshotTooLarge } from '../snapshot/row-budget.ts';
import { SnapshotsBusy } from '../snapshot/snapshots.ts';
import type { TopicState } from '../snapshot/state.ts';
import { authenticate } from './authenticate.ts';
import type { Context } from './context.ts';
import { Problem } from './errors.ts';
import { Refusal } from './refusal.ts';
import { namedTopics } from './topics.ts';

/**
 * `GET /v1/snapshot`: the present state of the topics in the query, or of the actor's own, and the cursor to subscribe from.
 * What the database fails at is answered as `unavailable`, like anything else that goes wrong.
 */
export function snapshotRoute(context: Context): RequestHandler {
  return async (request, response) => {
    const named = namedTopics(request, context.config);
    const claims = await authenticate(request, context);
    const condition = context.condition();
    if (condition !== 'ready') throw new Refusal(condition);
    await context.rateLimits.byActor('snapshots', request, response, claims);
    // First the cursor, then the state: what changes in between is in the stream after the cursor. It may be in the state as
    // well; the other way round it could be in neither. Membership and state are of one moment: nobody is given what came
    // after they lost it.
    const {
      cursor,
      history: { epoch },
    } = context.hub;
    const topics = await read(context, async (source) => {
      const membership = await context.lookUpMembership(source, claims, cursor);
      if (!maySee(membership, named ?? [])) throw new Problem('forbidden');
      return response.destroyed ? [] : (named ?? membership.own);
    });
    response.setHeader('Cache-Control', 'no-store');
    response.json({ cursor, epoch, topics });
  };
}

async function read(
  { snapshots }: Context,
  decide: (source: MembershipSource) => Promise<readonly string[]>,
): Promise<Record<string, TopicState>> {
  try {
    return await snapshots.read(decide);
  } catch (error) {
    if (error instanceof SnapshotsBusy) throw new Refusal('unavailable');
    if (error instanceof SnapshotTooLarge) throw new Problem('snapshot_too_large');
    throw error;
  }
}
