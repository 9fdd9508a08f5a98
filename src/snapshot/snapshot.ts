import { CompiledQuery, type Kysely, type Transaction } from 'kysely';
import type { MembershipSource } from '../access/look-up.ts';
import { isUuid } from '../access/topics.ts';
import type { Database } from '../database.ts';
import type { TopicKind } from '../outbox/catalogue.ts';
import { readEscrowIds, readEscrows } from './escrows.ts';
import { readNotifications } from './notifications.ts';
import { RowBudget } from './row-budget.ts';
import type { TopicState } from './state.ts';
import { readStreams } from './streams.ts';

/**
 * Reads the present state of topics: the fields that events carry and no others, in the events' own formats. All of it is
 * from one snapshot of the database, and costs at most eight queries however many rows there are.
 * @param decide says which topics, in normal form, by what the asker may see in this very snapshot; what it throws is thrown
 * @param maxRows most rows read
 * @returns the state of each, by topic
 * @throws SnapshotTooLarge, and what pg throws
 */
export function readSnapshot(
  db: Kysely<Database>,
  decide: (source: MembershipSource) => Promise<readonly string[]>,
  maxRows: number,
): Promise<Record<string, TopicState>> {
  const budget = new RowBudget(maxRows);
  return db
    .transaction()
    .setIsolationLevel('repeatable read')
    .setAccessMode('read only')
    .execute(async (transaction) => {
      const topics = await decide(membershipSource(transaction));
      const users = keysOf('user', topics);
      const { byId, byWallet } = await readStreams(
        transaction,
        keysOf('stream', topics),
        keysOf('wallet', topics),
        budget,
      );
      const escrowsOf = await readEscrowIds(transaction, users, budget);
      const escrowIds = new Set([
        ...keysOf('escrow', topics),
        ...[...escrowsOf.values()].flatMap((ids) => [...ids]),
      ]);
      const escrows = await readEscrows(transaction, [...escrowIds], budget);
      const notificationsOf = await readNotifications(transaction, users, budget);

      const stateOf: Record<TopicKind, (key: string) => TopicState> = {
        stream: (id) => byId.get(id) ?? null,
        escrow: (id) => escrows.get(id) ?? null,
        user: (id) => ({
          notifications: notificationsOf.get(id) ?? [],
          escrows: [...escrows.values()].filter(({ escrowId }) => escrowsOf.get(id)?.has(escrowId)),
        }),
        wallet: (address) => ({ streams: byWallet.get(address) ?? [] }),
      };
      return Object.fromEntries(
        topics.map((topic) => {
          const { kind, key } = split(topic);
          return [topic, stateOf[kind](key)];
        }),
      );
    });
}

function membershipSource(transaction: Transaction<Database>): MembershipSource {
  return {
    query: <Row extends object>(text: string, values: unknown[]) =>
      transaction.executeQuery<Row>(CompiledQuery.raw(text, values) as CompiledQuery<Row>),
  };
}

/** The keys of the topics of a kind, less those that can be no key of a row. */
function keysOf(kind: TopicKind, topics: readonly string[]): string[] {
  return topics
    .map(split)
    .filter((topic) => topic.kind === kind && (kind === 'wallet' || isUuid(topic.key)))
    .map(({ key }) => key);
}

function split(topic: string): { kind: TopicKind; key: string } {
  const colon = topic.indexOf(':');
  return { kind: topic.slice(0, colon) as TopicKind, key: topic.slice(colon + 1) };
}
