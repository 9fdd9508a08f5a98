import type { Kysely } from 'kysely';
import type { Database } from '../database.ts';
import { anyOf, groupBy, wireTime } from './query-parts.ts';
import type { RowBudget } from './row-budget.ts';
import type { SettlementState, StreamState } from './state.ts';

/** Most settlements that a stream's state holds. */
const SETTLEMENTS = 20;

/**
 * The streams with these ids and those of these wallets, newest first, in two queries however many there are.
 * @param ids uuids
 * @param wallets addresses in normal form
 */
export async function readStreams(
  db: Kysely<Database>,
  ids: readonly string[],
  wallets: readonly string[],
  budget: RowBudget,
): Promise<{ byId: Map<string, StreamState>; byWallet: Map<string, StreamState[]> }> {
  const byId = new Map<string, StreamState>();
  const byWallet = new Map<string, StreamState[]>(wallets.map((wallet) => [wallet, []]));
  if (ids.length + wallets.length === 0) return { byId, byWallet };
  const rows = await db
    .selectFrom('streams')
    .select(['payer', 'recipient', 'id as streamId', 'status'])
    .select(['rate_per_second as ratePerSecond', 'total_amount as totalAmount'])
    .select([
      wireTime('last_settled_at').as('lastSettledAt'),
      wireTime('end_time').as('endTime'),
      wireTime('updated_at').as('updatedAt'),
    ])
    .where((where) =>
      where.or([
        where('id', '=', anyOf(ids)),
        where('payer', '=', anyOf(wallets)),
        where('recipient', '=', anyOf(wallets)),
      ]),
    )
    .orderBy('created_at', 'desc')
    .orderBy('id')
    .limit(budget.limit)
    .execute();
  const found = budget.spend(rows).map(({ streamId }) => streamId);
  const settlements = await readSettlements(db, found, budget);
  for (const { payer, recipient, ...row } of rows) {
    const stream: StreamState = { ...row, settlements: settlements.get(row.streamId) ?? [] };
    byId.set(stream.streamId, stream);
    for (const wallet of new Set([payer, recipient])) byWallet.get(wallet)?.push(stream);
  }
  return { byId, byWallet };
}

async function readSettlements(
  db: Kysely<Database>,
  streamIds: readonly string[],
  budget: RowBudget,
): Promise<Map<string, SettlementState[]>> {
  if (streamIds.length === 0) return new Map();
  const rows = await db
    .selectFrom('streams')
    .innerJoinLateral(
      (lateral) =>
        lateral
          .selectFrom('settlements')
          .select(['settlements.id as settlementId', 'stream_id as streamId', 'settlements.status'])
          .select(['amount', 'asset', 'tx_hash as txHash', 'failure_code as failureCode'])
          .select(wireTime('finished_at').as('finishedAt'))
          .whereRef('stream_id', '=', 'streams.id')
          .where('settlements.status', 'in', ['succeeded', 'failed'])
          .orderBy('finished_at', (time) => time.desc().nullsLast())
          .orderBy('settlements.id')
          .limit(SETTLEMENTS)
          .as('latest'),
      (join) => join.onTrue(),
    )
    .selectAll('latest')
    .where('streams.id', '=', anyOf(streamIds))
    .limit(budget.limit)
    .execute();
  return groupBy(budget.spend(rows), ({ streamId }) => streamId);
}
