import type pg from 'pg';
import { count, type Move, pick, pickId, type Random, TX_HASH } from './move.ts';
import { notify } from './notification-moves.ts';
import { type DemoUser, OTHERS, USER_IDS, YOU } from './people.ts';

const OPEN_ESCROWS = 9;
const FINISHED_ESCROWS = 5;

const OURS = 'creator_id = any($1)';
const CLOSED = ['completed', 'cancelled', 'expired'];
const MILESTONE_AMOUNTS = ['150', '420.5', '1250', '3000'];

/** Escrows are opened, joined, funded, released piece by piece, disputed, decided and at last cleared away. */
export const escrowMoves: readonly Move[] = [
  {
    name: 'open escrow',
    weight: 0.8,
    play: async (client, random) => {
      const open = await count(
        client,
        `select count(*)::int as n from escrows where ${OURS} and status in ('pending', 'active', 'disputed')`,
        [USER_IDS],
      );
      if (open < OPEN_ESCROWS) await openEscrow(client, random, random() < 0.65);
    },
  },
  { name: 'answer invitation', weight: 0.8, play: answerInvitation },
  { name: 'release milestone', weight: 1.2, play: releaseMilestone },
  { name: 'file dispute', weight: 0.25, play: fileDispute },
  { name: 'review dispute', weight: 0.4, play: reviewDispute },
  { name: 'resolve dispute', weight: 0.3, play: resolveDispute },
  { name: 'let escrow expire', weight: 0.1, play: expireEscrow },
  { name: 'clear escrows', weight: 1, play: clearEscrows },
];

/** @param yours whether you are one of its parties, or it belongs to others altogether */
export async function openEscrow(
  client: pg.ClientBase,
  random: Random,
  yours: boolean,
): Promise<string | undefined> {
  const first = Math.floor(random() * OTHERS.length);
  const people = [...OTHERS.slice(first), ...OTHERS.slice(0, first)].slice(0, 3);
  const place = Math.floor(random() * 3);
  if (yours) people[place] = YOU;
  const [buyer, seller, arbitrator] = people as [DemoUser, DemoUser, DemoUser];
  const milestones = 2 + Math.floor(random() * 3);
  const { rows } = await client.query<{ id: string }>(
    `insert into escrows (title, description, amount, asset_code, type, creator_id, expires_at)
     values ('Demo escrow', 'Made up for the demo', $1::numeric * $2, 'USDC', 'milestone', $3, now() + interval '30 days')
     returning id`,
    [pick(MILESTONE_AMOUNTS, random), milestones, buyer.userId],
  );
  const id = rows[0]?.id;
  await client.query(
    `insert into escrow_parties (escrow_id, user_id, role, status, responded_at)
     values ($1, $2, 'buyer', 'accepted', now()), ($1, $3, 'seller', 'pending', null), ($1, $4, 'arbitrator', 'pending', null)`,
    [id, buyer.userId, seller.userId, arbitrator.userId],
  );
  await client.query(
    `insert into escrow_conditions (escrow_id, type, description, amount)
     select id, 'manual', 'Part ' || n, amount / $2 from escrows, generate_series(1, $2::int) n where id = $1`,
    [id, milestones],
  );
  return id;
}

async function answerInvitation(client: pg.ClientBase, random: Random): Promise<void> {
  const id = await pickId(
    client,
    random,
    `select p.id from escrow_parties p join escrows e on e.id = p.escrow_id
      where ${OURS} and e.status = 'pending' and p.status = 'pending'`,
    [USER_IDS],
  );
  if (!id) return;
  const accepts = random() < 0.93;
  const { rows } = await client.query<{ escrow_id: string }>(
    'update escrow_parties set status = $2, responded_at = now() where id = $1 returning escrow_id',
    [id, accepts ? 'accepted' : 'rejected'],
  );
  const escrow = rows[0]?.escrow_id;
  if (!accepts) {
    await client.query(`update escrows set status = 'cancelled' where id = $1`, [escrow]);
    return notify(client, escrow, 'escrow.cancelled');
  }
  await fundIfComplete(client, escrow);
}

/** Once everybody has accepted, the money arrives and the escrow is active. */
export async function fundIfComplete(client: pg.ClientBase, escrow: string | undefined): Promise<void> {
  const { rowCount } = await client.query(
    `update escrows set status = 'active', funded_at = now(), transaction_hash = ${TX_HASH}
      where id = $1 and status = 'pending'
        and not exists (select from escrow_parties where escrow_id = $1 and status <> 'accepted')`,
    [escrow],
  );
  if (rowCount) await notify(client, escrow, 'escrow.funded');
}

async function releaseMilestone(client: pg.ClientBase, random: Random): Promise<void> {
  const escrow = await pickId(client, random, `select id from escrows where ${OURS} and status = 'active'`, [
    USER_IDS,
  ]);
  if (escrow) await releaseNext(client, escrow);
}

/** Releases an active escrow's next milestone; the last one completes it. */
export async function releaseNext(client: pg.ClientBase, escrow: string): Promise<void> {
  const released = await client.query(
    `with released as (
       update escrow_conditions
          set is_fulfilled = true, is_met = true, is_released = true, released_at = now(), tx_hash = ${TX_HASH}
        where id = (select c.id from escrow_conditions c join escrows e on e.id = c.escrow_id
                     where e.id = $1 and e.status = 'active' and not c.is_released order by c.id limit 1)
       returning amount)
     update escrows set released_amount = least(escrows.amount, released_amount + released.amount) from released
      where id = $1`,
    [escrow],
  );
  if (!released.rowCount) return;
  const completed = await client.query(
    `update escrows set status = 'completed', transaction_hash = ${TX_HASH}
      where id = $1 and not exists (select from escrow_conditions where escrow_id = $1 and not is_released)`,
    [escrow],
  );
  await notify(client, escrow, completed.rowCount ? 'escrow.completed' : 'milestone.released');
}

async function fileDispute(client: pg.ClientBase, random: Random): Promise<void> {
  const escrow = await pickId(
    client,
    random,
    `select id from escrows e where ${OURS} and status = 'active'
        and not exists (select from disputes d where d.escrow_id = e.id)`,
    [USER_IDS],
  );
  if (escrow) await dispute(client, escrow, random() < 0.5 ? 'buyer' : 'seller');
}

/** One of the two parties files a dispute. */
export async function dispute(
  client: pg.ClientBase,
  escrow: string,
  role: 'buyer' | 'seller',
): Promise<void> {
  await client.query(
    `insert into disputes (escrow_id, filed_by_user_id, reason, evidence)
     select escrow_id, user_id, 'Demo reason', 'Demo evidence' from escrow_parties where escrow_id = $1 and role = $2`,
    [escrow, role],
  );
  await client.query(`update escrows set status = 'disputed' where id = $1`, [escrow]);
  await notify(client, escrow, 'dispute.filed');
}

async function reviewDispute(client: pg.ClientBase): Promise<void> {
  await client.query(
    `update disputes set status = 'under_review' where id = (
       select d.id from disputes d join escrows e on e.id = d.escrow_id where ${OURS} and d.status = 'open' limit 1)`,
    [USER_IDS],
  );
}

async function resolveDispute(client: pg.ClientBase, random: Random): Promise<void> {
  const escrow = await pickId(
    client,
    random,
    `select e.id from escrows e join disputes d on d.escrow_id = e.id where ${OURS} and d.status = 'under_review'`,
    [USER_IDS],
  );
  if (!escrow) return;
  const seller = pick([0, 25, 40, 50, 60, 100], random);
  const outcome = seller === 100 ? 'released_to_seller' : seller === 0 ? 'refunded_to_buyer' : 'split';
  await client.query(
    `update disputes set status = 'resolved', outcome = $2, seller_percent = $3, buyer_percent = 100 - $3::numeric,
            resolved_at = now() where escrow_id = $1`,
    [escrow, outcome, seller],
  );
  await client.query(
    `update escrows set status = $2, released_amount = released_amount + round((amount - released_amount) * $3 / 100, 7)
      where id = $1`,
    [escrow, seller === 0 ? 'cancelled' : 'completed', seller],
  );
  await notify(client, escrow, 'dispute.resolved');
}

async function expireEscrow(client: pg.ClientBase, random: Random): Promise<void> {
  const id = await pickId(client, random, `select id from escrows where ${OURS} and status = 'pending'`, [
    USER_IDS,
  ]);
  if (!id) return;
  await client.query(`update escrows set status = 'expired', expires_at = now() where id = $1`, [id]);
  await notify(client, id, 'escrow.expired');
}

async function clearEscrows(client: pg.ClientBase): Promise<void> {
  await client.query(
    `delete from escrows where id in (
       select id from escrows where ${OURS} and status = any($2) order by updated_at desc offset $3)`,
    [USER_IDS, CLOSED, FINISHED_ESCROWS],
  );
}
