import type { Kysely } from 'kysely';
import type { Database } from '../database.ts';
import { anyOf, wireTime } from './query-parts.ts';
import type { RowBudget } from './row-budget.ts';
import type { NotificationState } from './state.ts';

/** Most notifications that a user's state holds. */
const NOTIFICATIONS = 50;

/**
 * The latest notifications of each user, newest first, in one query.
 * @param userIds uuids
 * @returns by user id
 */
export async function readNotifications(
  db: Kysely<Database>,
  userIds: readonly string[],
  budget: RowBudget,
): Promise<Map<string, NotificationState[]>> {
  const byUser = new Map<string, NotificationState[]>(userIds.map((id) => [id, []]));
  if (userIds.length === 0) return byUser;
  const rows = await db
    .selectFrom('users')
    .innerJoinLateral(
      (lateral) =>
        lateral
          .selectFrom('notifications')
          .select(['user_id as userId', 'notifications.id', 'escrow_id as escrowId'])
          .select(['event_type as eventType', 'status'])
          .select([wireTime('created_at').as('createdAt'), wireTime('read_at').as('readAt')])
          .whereRef('user_id', '=', 'users.id')
          .orderBy('created_at', 'desc')
          .orderBy('notifications.id')
          .limit(NOTIFICATIONS)
          .as('latest'),
      (join) => join.onTrue(),
    )
    .selectAll('latest')
    .where('users.id', '=', anyOf(userIds))
    .limit(budget.limit)
    .execute();
  for (const { userId, ...notification } of budget.spend(rows)) byUser.get(userId)?.push(notification);
  return byUser;
}
