import { type Kysely, sql } from 'kysely';
import type { Database } from '../database.ts';
import { anyOf, groupBy, wireTime } from './query-parts.ts';
import type { RowBudget } from './row-budget.ts';
import type { DisputeState, EscrowState } from './state.ts';

/**
 * Which escrows each user may see, by the rule of access/actor.ts: as creator, or as a party that has not rejected.
 * @param userIds uuids
 * @returns ids of escrows by user id
 */
export async function readEscrowIds(
  db: Kysely<Database>,
  userIds: readonly string[],
  budget: RowBudget,
): Promise<Map<string, Set<string>>> {
  const byUser = new Map(userIds.map((id) => [id, new Set<string>()]));
  if (userIds.length === 0) return byUser;
  const rows = await db
    .selectFrom('escrows')
    .select(['creator_id as userId', 'id as escrowId'])
    .where('creator_id', '=', anyOf(userIds))
    .unionAll(
      db
        .selectFrom('escrow_parties')
        .select(['user_id as userId', 'escrow_id as escrowId'])
        .where('user_id', '=', anyOf(userIds))
        .where('status', '<>', 'rejected'),
    )
    .limit(budget.limit)
    .execute();
  for (const { userId, escrowId } of budget.spend(rows)) byUser.get(userId)?.add(escrowId);
  return byUser;
}

/**
 * The escrows with these ids, newest first, in four queries however many there are.
 * @param ids uuids
 */
export async function readEscrows(
  db: Kysely<Database>,
  ids: readonly string[],
  budget: RowBudget,
): Promise<Map<string, EscrowState>> {
  if (ids.length === 0) return new Map();
  const escrows = await db
    .selectFrom('escrows')
    .select(['id as escrowId', 'status', 'amount', 'released_amount as releasedAmount'])
    .select(['asset_code as asset', 'transaction_hash as txHash', wireTime('updated_at').as('updatedAt')])
    .where('id', '=', anyOf(ids))
    .orderBy('created_at', 'desc')
    .orderBy('id')
    .limit(budget.limit)
    .execute();
  budget.spend(escrows);
  const parties = await readParties(db, ids, budget);
  const milestones = await readMilestones(db, ids, budget);
  const disputes = await readDisputes(db, ids, budget);
  return new Map(
    escrows.map((escrow) => [
      escrow.escrowId,
      {
        ...escrow,
        parties: (parties.get(escrow.escrowId) ?? []).map(({ escrowId: _, ...party }) => party),
        milestones: (milestones.get(escrow.escrowId) ?? []).map(({ escrowId: _, ...milestone }) => milestone),
        dispute: disputes.get(escrow.escrowId) ?? null,
      },
    ]),
  );
}

async function readParties(db: Kysely<Database>, escrowIds: readonly string[], budget: RowBudget) {
  const rows = await db
    .selectFrom('escrow_parties')
    .select(['escrow_id as escrowId', 'id as partyId', 'role', 'status'])
    .select(wireTime('responded_at').as('respondedAt'))
    .where('escrow_id', '=', anyOf(escrowIds))
    .orderBy('role')
    .orderBy('id')
    .limit(budget.limit)
    .execute();
  return groupBy(budget.spend(rows), ({ escrowId }) => escrowId);
}

async function readMilestones(db: Kysely<Database>, escrowIds: readonly string[], budget: RowBudget) {
  const rows = await db
    .selectFrom('escrow_conditions as condition')
    .innerJoin('escrows', 'escrows.id', 'condition.escrow_id')
    .select(['escrow_id as escrowId', 'condition.id as conditionId', 'condition.amount'])
    .select(['asset_code as asset', 'tx_hash as txHash', wireTime('released_at').as('releasedAt')])
    .where('escrow_id', '=', anyOf(escrowIds))
    .where('is_released', '=', true)
    .orderBy('released_at')
    .orderBy('condition.id')
    .limit(budget.limit)
    .execute();
  return groupBy(budget.spend(rows), ({ escrowId }) => escrowId);
}

async function readDisputes(
  db: Kysely<Database>,
  escrowIds: readonly string[],
  budget: RowBudget,
): Promise<Map<string, DisputeState>> {
  const rows = await db
    .selectFrom('disputes')
    .select(['escrow_id as escrowId', 'id as disputeId'])
    .select(sql<string | null>`escrow_role(escrow_id, filed_by_user_id)`.as('filedByRole'))
    .select(['status', 'outcome', 'seller_percent as sellerPercent', 'buyer_percent as buyerPercent'])
    .select(wireTime('resolved_at').as('resolvedAt'))
    .where('escrow_id', '=', anyOf(escrowIds))
    .limit(budget.limit)
    .execute();
  return new Map(budget.spend(rows).map(({ escrowId, ...dispute }) => [escrowId, dispute]));
}
