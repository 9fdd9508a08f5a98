import type pg from 'pg';
import { EVENT_TYPES, type EventType } from '../src/outbox/catalogue.ts';

/** An event as the outbox holds it; `data` is its text, byte for byte. */
export interface Example {
  readonly id: number;
  readonly topic: string;
  readonly type: EventType;
  readonly data: string;
}

const PAYER = '7a4f0c52-1d6e-4b83-9c0a-5e2f8d1b6a01';
const SELLER = '7a4f0c52-1d6e-4b83-9c0a-5e2f8d1b6a02';
const STREAM = 'd17f7e00-b5b8-4635-8a9a-c68dd6b94865';
const SETTLEMENT = '8c0496d6-7ec7-41b1-bfa7-f18c20551368';
const ESCROW = '45db8caa-a3c4-4e34-9c49-9716146c1028';
const PARTY = '3fa911d4-f103-4917-b925-7e28b6967680';
const MILESTONE = 'e20656ae-de79-4eaf-b4ae-6d6cc990354e';
const DISPUTE = 'aff92c29-90b4-4e89-a1ad-ddc0641f92a1';
const NOTIFICATION = '83e0b33f-1510-4cd5-81a0-0d7043ef7c97';
const HASH = `0x${'4ac1'.repeat(16)}`;
const at = (time: string): string => `2026-11-22T${time}Z`;

/** What backends do, one transaction after the other; times are set by hand, so that they are the same every day. */
const STORY = [
  `insert into users (id, wallet_address) values ('${PAYER}', '0x${'0'.repeat(38)}a1'), ('${SELLER}', '0x${'0'.repeat(38)}a2')`,
  `insert into streams (id, payer, recipient, status, rate_per_second, total_amount, updated_at)
   select '${STREAM}', p.wallet_address, s.wallet_address, 'active', 0.001929012, 5000, '${at('02:07:10.004')}'
     from users p, users s where p.id = '${PAYER}' and s.id = '${SELLER}'`,
  `insert into settlements (id, stream_id, status, amount, asset, requested_at)
   values ('${SETTLEMENT}', '${STREAM}', 'pending', 6.9444432, 'USDC', '${at('02:07:15.120')}')`,
  `update settlements set status = 'succeeded', tx_hash = '${HASH}', finished_at = '${at('02:07:16.243')}' where id = '${SETTLEMENT}'`,
  `update streams set status = 'paused', last_settled_at = '${at('02:07:16.236')}', updated_at = '${at('02:07:16.250')}' where id = '${STREAM}'`,
  `insert into escrows (id, title, amount, asset_code, creator_id, updated_at)
   values ('${ESCROW}', 'Website', 1000, 'USDC', '${PAYER}', '${at('02:08:00.000')}')`,
  `insert into escrow_parties (id, escrow_id, user_id, role) values ('${PARTY}', '${ESCROW}', '${SELLER}', 'seller')`,
  `update escrow_parties set status = 'accepted', responded_at = '${at('02:09:16.269')}' where id = '${PARTY}'`,
  `update escrows set status = 'active', transaction_hash = '${HASH}', updated_at = '${at('02:10:16.279')}' where id = '${ESCROW}'`,
  `insert into escrow_conditions (id, escrow_id, amount) values ('${MILESTONE}', '${ESCROW}', 400)`,
  `update escrows set released_amount = 400, updated_at = '${at('02:11:16.294')}' where id = '${ESCROW}'`,
  `update escrow_conditions set is_released = true, released_at = '${at('02:11:16.294')}', tx_hash = '${HASH}' where id = '${MILESTONE}'`,
  `insert into notifications (id, user_id, escrow_id, event_type, payload, created_at)
   values ('${NOTIFICATION}', '${SELLER}', '${ESCROW}', 'milestone.released',
           '{"conditionId":"${MILESTONE}","amount":"400","asset":"USDC","txHash":"${HASH}"}', '${at('02:11:16.313')}')`,
  `update notifications set read_at = '${at('02:12:16.320')}' where id = '${NOTIFICATION}'`,
  `insert into disputes (id, escrow_id, filed_by_user_id, reason) values ('${DISPUTE}', '${ESCROW}', '${SELLER}', 'late')`,
  `update disputes set status = 'resolved', outcome = 'split', seller_percent = 60, buyer_percent = 40,
          resolved_at = '${at('02:13:16.307')}' where id = '${DISPUTE}'`,
  `delete from escrow_parties where id = '${PARTY}'`,
];

/**
 * One real event of each type, in the order of the catalogue: what the triggers wrote while the story was played.
 * @param pool of an empty, migrated database
 * @throws if a type has none
 */
export async function playExamples(pool: pg.Pool): Promise<Example[]> {
  for (const statement of STORY) await pool.query(statement);
  const { rows } = await pool.query<Example>(
    'select id, topic, type, data::text as data from outbox order by id',
  );
  return (Object.keys(EVENT_TYPES) as EventType[]).map((type) => {
    const example = rows.findLast((row) => row.type === type);
    if (example === undefined) throw new Error(`nothing in the story causes ${type}`);
    return example;
  });
}
