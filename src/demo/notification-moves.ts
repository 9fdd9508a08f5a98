import type pg from 'pg';
import type { Move } from './move.ts';
import { USER_IDS } from './people.ts';

const NOTIFICATIONS_EACH = 40;

/** Notifications are read, oldest first, and old ones are thrown away. */
export const notificationMoves: readonly Move[] = [
  { name: 'read notification', weight: 6, play: readNotification },
  { name: 'clear notifications', weight: 1, play: clearNotifications },
];

/** Tells everybody who takes part in an escrow that something happened to it. */
export async function notify(
  client: pg.ClientBase,
  escrow: string | undefined,
  eventType: string,
): Promise<void> {
  await client.query(
    `insert into notifications (user_id, escrow_id, event_type, payload, status)
     select distinct p.user_id, e.id, $2, jsonb_build_object('amount', e.amount::text, 'asset', e.asset_code), 'sent'
       from escrows e join escrow_parties p on p.escrow_id = e.id and p.status <> 'rejected'
      where e.id = $1`,
    [escrow, eventType],
  );
}

/** Somebody who has more than two unread ones reads the oldest. */
async function readNotification(client: pg.ClientBase): Promise<void> {
  await client.query(
    `update notifications set read_at = now() where id = (
       select id from (
         select id, created_at, row_number() over (partition by user_id order by created_at desc) as place
           from notifications where user_id = any($1) and read_at is null) unread
        where place > 2 order by created_at limit 1)`,
    [USER_IDS],
  );
}

async function clearNotifications(client: pg.ClientBase): Promise<void> {
  await client.query(
    `delete from notifications where id in (
       select id from (
         select id, row_number() over (partition by user_id order by created_at desc) as place
           from notifications where user_id = any($1)) ranked
        where place > $2)`,
    [USER_IDS, NOTIFICATIONS_EACH],
  );
}
