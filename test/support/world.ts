import type { Pool } from 'pg';
import { mintToken } from './tokens.ts';

/** A user with a wallet, and a token that speaks for them. */
export interface Person {
  readonly id: string;
  readonly wallet: string;
  readonly token: string;
}

/** Inserts a user; `number` makes the wallet address. */
export async function makePerson(pool: Pool, number: number, role = 'USER'): Promise<Person> {
  const wallet = `0x${number.toString(16).padStart(40, '0')}`;
  const { rows } = await pool.query<{ id: string }>(
    'insert into users (wallet_address, role) values ($1, $2) returning id',
    [wallet, role],
  );
  const id = rows[0]?.id ?? '';
  return { id, wallet, token: mintToken({ sub: id }) };
}

/** Inserts an active stream from one person to another; returns its id. */
export async function makeStream(pool: Pool, payer: Person, recipient: Person): Promise<string> {
  const { rows } = await pool.query<{ id: string }>(
    `insert into streams (payer, recipient, status, rate_per_second, total_amount) values ($1, $2, 'active', 0.001, 1000) returning id`,
    [payer.wallet, recipient.wallet],
  );
  return rows[0]?.id ?? '';
}

/** Inserts an escrow of a creator; returns its id. */
export async function makeEscrow(pool: Pool, creator: Person): Promise<string> {
  const { rows } = await pool.query<{ id: string }>(
    `insert into escrows (title, amount, asset_code, creator_id) values ('boat', 100, 'USDC', $1) returning id`,
    [creator.id],
  );
  return rows[0]?.id ?? '';
}

/** The ids of the outbox, in order; of some topics or of all. */
export async function outboxIds(pool: Pool, topics?: readonly string[], after = 0): Promise<number[]> {
  const { rows } = await pool.query<{ id: number }>(
    'select id from outbox where id > $2 and ($1::text[] is null or topic = any ($1)) order by id',
    [topics ?? null, after],
  );
  return rows.map(({ id }) => id);
}
