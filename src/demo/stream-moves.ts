import type pg from 'pg';
import { count, type Move, pick, pickId, type Random, TX_HASH } from './move.ts';
import { OTHERS, WALLETS, YOU } from './people.ts';

const OPEN_STREAMS = 12;
const FINISHED_STREAMS = 3;
const SETTLEMENTS_EACH = 8;

const OURS = 'payer = any($1) and recipient = any($1)';
const FAILURES = ['insufficient_balance', 'network_timeout', 'allowance_exceeded'];
const ENDINGS = ['completed', 'ended', 'withdrawn', 'cancelled'];

/** Rate per second and total: a salary, a grant, a lease, a retainer … as numeric strings. */
const TERMS: readonly (readonly [string, string])[] = [
  ['0.019290123', '50000'],
  ['0.385802469', '1000000'],
  ['0.125000000', '324000'],
  ['0.041666667', '108000'],
  ['1.250000000', '450000'],
  ['0.007716049', '20000'],
];

/** Streams are opened, started, settled, paused, re-rated, ended and at last cleared away. */
export const streamMoves: readonly Move[] = [
  { name: 'request settlement', weight: 12, play: requestSettlement },
  { name: 'finish settlement', weight: 16, play: finishSettlement },
  { name: 'pause stream', weight: 2, play: pauseStream },
  { name: 'resume stream', weight: 1.2, play: resumeStream },
  { name: 'change rate', weight: 2, play: changeRate },
  { name: 'start stream', weight: 2, play: startStream },
  { name: 'end stream', weight: 0.15, play: endStream },
  {
    name: 'open stream',
    weight: 2,
    play: async (client, random) => {
      const open = await count(
        client,
        `select count(*)::int as n from streams where ${OURS} and status in ('draft', 'active', 'paused')`,
        [WALLETS],
      );
      if (open < OPEN_STREAMS) await openStream(client, random, random() < 0.65);
    },
  },
  { name: 'clear streams', weight: 1, play: clearStreams },
];

/** @param yours whether you are the payer or the recipient, or two others deal with each other */
export async function openStream(client: pg.ClientBase, random: Random, yours: boolean): Promise<void> {
  const other = pick(OTHERS, random);
  const second = yours
    ? YOU
    : pick(
        OTHERS.filter((it) => it !== other),
        random,
      );
  const [payer, recipient] = random() < 0.5 ? [other, second] : [second, other];
  const [rate, total] = pick(TERMS, random);
  await client.query(
    `insert into streams (payer, recipient, status, rate_per_second, total_amount, label, off_chain_memo, chain_id)
     values ($1, $2, 'draft', $3, $4, 'Demo stream', 'Made up for the demo', 'eip155:137')`,
    [payer.walletAddress, recipient.walletAddress, rate, total],
  );
}

async function startStream(client: pg.ClientBase, random: Random): Promise<void> {
  const id = await pickId(client, random, `select id from streams where ${OURS} and status = 'draft'`, [
    WALLETS,
  ]);
  if (!id) return;
  await client.query(
    `update streams set status = 'active', start_time = now(), last_settled_at = now(), transaction_hash = ${TX_HASH},
            end_time = case when $2 then now() + make_interval(secs => (total_amount / rate_per_second)::float8) end
      where id = $1`,
    [id, random() < 0.5],
  );
}

async function requestSettlement(client: pg.ClientBase, random: Random): Promise<void> {
  const id = await pickId(
    client,
    random,
    `select id from streams s where ${OURS} and status = 'active'
        and not exists (select from settlements where stream_id = s.id and status = 'pending')`,
    [WALLETS],
  );
  if (!id) return;
  await client.query(
    `insert into settlements (stream_id, amount, asset)
     select id, least(total_amount, rate_per_second
              * extract(epoch from now() - coalesce(last_settled_at, start_time, created_at))), 'USDC'
       from streams where id = $1`,
    [id],
  );
}

async function finishSettlement(client: pg.ClientBase, random: Random): Promise<void> {
  const id = await pickId(
    client,
    random,
    `select t.id from settlements t join streams on streams.id = t.stream_id where ${OURS} and t.status = 'pending'`,
    [WALLETS],
  );
  if (!id) return;
  if (random() < 0.07) {
    await client.query(
      `update settlements set status = 'failed', failure_code = $2, finished_at = now() where id = $1`,
      [id, pick(FAILURES, random)],
    );
    return;
  }
  await client.query(
    `with paid as (
       update settlements set status = 'succeeded', tx_hash = ${TX_HASH}, finished_at = now() where id = $1
       returning stream_id, requested_at)
     update streams set last_settled_at = paid.requested_at from paid where streams.id = paid.stream_id`,
    [id],
  );
  await client.query(
    `delete from settlements where id in (
       select id from settlements
        where stream_id = (select stream_id from settlements where id = $1) and status <> 'pending'
        order by finished_at desc offset $2)`,
    [id, SETTLEMENTS_EACH],
  );
}

async function pauseStream(client: pg.ClientBase): Promise<void> {
  await client.query(
    `update streams set status = 'paused'
      where id = (select id from streams where ${OURS} and status = 'active' order by updated_at limit 1)
        and (select count(*) from streams where ${OURS} and status = 'active') > 7`,
    [WALLETS],
  );
}

/** The pause is not paid for: what a stream earns counts from now on again. */
async function resumeStream(client: pg.ClientBase): Promise<void> {
  await client.query(
    `update streams set status = 'active', last_settled_at = now()
      where id = (select id from streams where ${OURS} and status = 'paused' order by updated_at limit 1)`,
    [WALLETS],
  );
}

async function changeRate(client: pg.ClientBase, random: Random): Promise<void> {
  const id = await pickId(client, random, `select id from streams where ${OURS} and status = 'active'`, [
    WALLETS,
  ]);
  if (!id) return;
  // Held between two bounds, or a long night of changes would walk it to nothing.
  await client.query(
    `update streams set rate_per_second = round(least(2, greatest(0.005, rate_per_second * $2::numeric)), 9) where id = $1`,
    [id, (0.8 + random() * 0.45).toFixed(3)],
  );
}

async function endStream(client: pg.ClientBase, random: Random): Promise<void> {
  const id = await pickId(
    client,
    random,
    `select id from streams s where ${OURS} and status in ('active', 'paused')
        and not exists (select from settlements where stream_id = s.id and status = 'pending')`,
    [WALLETS],
  );
  if (!id) return;
  await client.query('update streams set status = $2, end_time = now() where id = $1', [
    id,
    pick(ENDINGS, random),
  ]);
}

async function clearStreams(client: pg.ClientBase): Promise<void> {
  const { rows } = await client.query<{ id: string }>(
    `select id from streams where ${OURS} and status = any($2) order by updated_at desc offset $3`,
    [WALLETS, ENDINGS, FINISHED_STREAMS],
  );
  const ids = rows.map((it) => it.id);
  await client.query('delete from settlements where stream_id = any($1)', [ids]);
  await client.query('delete from streams where id = any($1)', [ids]);
}
