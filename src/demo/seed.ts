import type pg from 'pg';
import { dispute, fundIfComplete, openEscrow, releaseNext } from './escrow-moves.ts';
import { type DemoUser, OTHERS, USER_IDS, YOU } from './people.ts';

export type { DemoUser } from './people.ts';

interface SeedStream {
  readonly payer: DemoUser;
  readonly recipient: DemoUser;
  readonly status: string;
  readonly rate: string;
  readonly total: string;
  /** Minutes since the last settlement. */
  readonly settled: number;
}

/** What an escrow has been through by the time the demo begins. */
type Stage = 'invited' | 'funded' | 'released' | 'disputed' | 'completed';

const [ana, ben, chi, dia, eli] = OTHERS as readonly [DemoUser, DemoUser, DemoUser, DemoUser, DemoUser];

const STREAMS: readonly SeedStream[] = [
  { payer: ana, recipient: YOU, status: 'active', rate: '0.019290123', total: '50000', settled: 41 },
  { payer: ben, recipient: YOU, status: 'active', rate: '0.125000000', total: '324000', settled: 12 },
  { payer: YOU, recipient: chi, status: 'active', rate: '0.003858025', total: '10000', settled: 95 },
  { payer: YOU, recipient: dia, status: 'paused', rate: '0.041666667', total: '108000', settled: 230 },
  { payer: eli, recipient: YOU, status: 'active', rate: '1.250000000', total: '450000', settled: 3 },
  { payer: chi, recipient: YOU, status: 'active', rate: '0.007716049', total: '20000', settled: 64 },
  { payer: YOU, recipient: ana, status: 'draft', rate: '0.038580247', total: '100000', settled: 0 },
  { payer: YOU, recipient: ben, status: 'completed', rate: '0.100000000', total: '360', settled: 1500 },
  { payer: ana, recipient: ben, status: 'active', rate: '0.002000000', total: '6000', settled: 20 },
  { payer: chi, recipient: dia, status: 'active', rate: '0.050000000', total: '12000', settled: 7 },
  { payer: eli, recipient: ana, status: 'paused', rate: '0.000900000', total: '2400', settled: 310 },
];

const ESCROWS: readonly (readonly [stage: Stage, yours: boolean])[] = [
  ['released', true],
  ['disputed', true],
  ['invited', true],
  ['funded', true],
  ['completed', true],
  ['released', true],
  ['funded', false],
  ['invited', false],
];

/**
 * Loads the demo's people, streams, escrows and notifications, in one transaction and only once: a database that has
 * them already is left as its market has made it.
 * @returns the user whom the dashboard link should sign in
 */
export async function seedDemo(pool: pg.Pool): Promise<DemoUser> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    if (await addPeople(client)) {
      for (const [index, stream] of STREAMS.entries()) await addStream(client, stream, index + 1);
      for (const [index, [stage, yours]] of ESCROWS.entries()) await addEscrow(client, stage, yours, index);
      await spreadOverTime(client);
    }
    await client.query('commit');
    return YOU;
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

async function addPeople(client: pg.ClientBase): Promise<boolean> {
  const people = [YOU, ...OTHERS];
  const { rowCount } = await client.query(
    `insert into users (id, wallet_address) select * from unnest($1::uuid[], $2::text[]) on conflict do nothing`,
    [people.map((it) => it.userId), people.map((it) => it.walletAddress)],
  );
  return rowCount === people.length;
}

async function addStream(client: pg.ClientBase, stream: SeedStream, number: number): Promise<void> {
  const started = stream.status !== 'draft';
  const { rows } = await client.query<{ id: string }>(
    `insert into streams (id, payer, recipient, status, rate_per_second, total_amount, start_time, last_settled_at,
                          end_time, label, off_chain_memo, chain_id)
     values (md5('settlewire demo stream ' || $1)::uuid, $2, $3, $4, $5, $6, case when $7 then now() - interval '3 days' end,
             case when $7 then now() - make_interval(mins => $8) end,
             case when $9 then now() + interval '24 days' end, 'Demo stream', 'Made up for the demo', 'eip155:137')
     returning id`,
    [
      number,
      stream.payer.walletAddress,
      stream.recipient.walletAddress,
      stream.status,
      stream.rate,
      stream.total,
      started,
      stream.settled,
      started && number % 2 === 0,
    ],
  );
  if (!started) return;
  await client.query(
    `insert into settlements (stream_id, status, amount, asset, tx_hash, requested_at, finished_at)
     select id, 'succeeded', least(total_amount, rate_per_second * 3600), 'USDC', '0x' || md5(id::text),
            last_settled_at, last_settled_at from streams where id = $1`,
    [rows[0]?.id],
  );
}

/** Walks a new escrow through the market's own moves, with its choices fixed. */
async function addEscrow(client: pg.ClientBase, stage: Stage, yours: boolean, index: number): Promise<void> {
  const escrow = await openEscrow(client, () => (index * 0.13) % 1, yours);
  if (!escrow || stage === 'invited') return;
  await client.query(
    `update escrow_parties set status = 'accepted', responded_at = now() where escrow_id = $1 and status = 'pending'`,
    [escrow],
  );
  await fundIfComplete(client, escrow);
  if (stage !== 'funded') await releaseNext(client, escrow);
  if (stage === 'disputed') await dispute(client, escrow, 'buyer');
  if (stage === 'completed') for (let left = 0; left < 4; left += 1) await releaseNext(client, escrow);
}

/** All of it was loaded in one moment, which is not how a page of somebody's dealings looks. */
async function spreadOverTime(client: pg.ClientBase): Promise<void> {
  await client.query(
    `update notifications set created_at = now() - place * interval '17 minutes',
            read_at = case when place > 3 then now() - place * interval '15 minutes' end
       from (select id, row_number() over (partition by user_id order by id) as place from notifications) ranked
      where notifications.id = ranked.id and user_id = any($1)`,
    [USER_IDS],
  );
  await client.query(
    `update escrows set updated_at = now() - place * interval '23 minutes'
       from (select id, row_number() over (order by id) as place from escrows) ranked
      where escrows.id = ranked.id and creator_id = any($1)`,
    [USER_IDS],
  );
}
