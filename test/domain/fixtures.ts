import type pg from 'pg';
import { type EventType, keysOf } from '../../src/outbox/catalogue.ts';

/** Whoever can run a query: a pool, or one of its clients in the middle of a transaction. */
export type Queryable = Pick<pg.Pool, 'query'>;

export interface Appended {
  readonly topic: string;
  readonly type: string;
  readonly data: Record<string, unknown>;
}

type Row = Record<string, unknown>;

/** What the outbox gained while the work ran, in order. */
export async function appendedBy(pool: pg.Pool, work: () => Promise<unknown>): Promise<Appended[]> {
  const before = await pool.query('select coalesce(max(id), 0) as id from outbox');
  await work();
  const { rows } = await pool.query<Appended>(
    'select topic, type, data from outbox where id > $1 order by id',
    [before.rows[0].id],
  );
  return rows;
}

/** Events without the announcements of who gained or lost what. */
export function withoutAccess(events: readonly Appended[]): Appended[] {
  return events.filter(({ type }) => !type.startsWith('access:'));
}

/** An access event as one line: `granted escrow:… to user:…`. */
export function accessLines(events: readonly Appended[]): string[] {
  return events
    .filter(({ type }) => type.startsWith('access:'))
    .map(({ topic, type, data }) =>
      [type.slice('access:'.length), data['topic'], 'on', topic].filter(Boolean).join(' '),
    );
}

/** The event that the catalogue describes; data must name its keys in the catalogue's order. */
export function event(type: EventType, topic: string, ...values: unknown[]): Appended {
  const keys = keysOf(type);
  if (keys.length !== values.length) throw new Error(`${type} has ${keys.length} keys`);
  return { topic, type, data: Object.fromEntries(keys.map((key, i) => [key, values[i]])) };
}

/** Inserts a row and returns its id. */
export async function insert(db: Queryable, table: string, row: Row): Promise<string> {
  const names = Object.keys(row);
  const places = names.map((_, i) => `$${i + 1}`);
  const { rows } = await db.query<{ id: string }>(
    `insert into ${table} (${names}) values (${places}) returning id`,
    Object.values(row),
  );
  return rows[0]?.id ?? '';
}

/** Sets columns of the row with that id. */
export async function update(db: Queryable, table: string, id: string, row: Row): Promise<void> {
  const sets = Object.keys(row).map((name, i) => `${name} = $${i + 2}`);
  await db.query(`update ${table} set ${sets} where id = $1`, [id, ...Object.values(row)]);
}

/** Runs the work in one transaction of one session. */
export async function inTransaction(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<void>,
): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    await work(client);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback');
    throw error;
  } finally {
    client.release();
  }
}

export const newUser = (db: Queryable, row: Row = {}) =>
  insert(db, 'users', { wallet_address: null, ...row });

export const newStream = (db: Queryable, row: Row = {}) =>
  insert(db, 'streams', {
    payer: 'payer-1',
    recipient: 'recipient-1',
    status: 'active',
    rate_per_second: '0.000000001',
    total_amount: '12345678901.000000009',
    ...row,
  });

/** An escrow; without a creator given, of somebody who is nobody else. */
export const newEscrow = async (db: Queryable, row: Row = {}) =>
  insert(db, 'escrows', {
    creator_id: row['creator_id'] ?? (await newUser(db)),
    title: 'Website',
    amount: '100',
    asset_code: 'USDC',
    ...row,
  });

export const newParty = (db: Queryable, escrow_id: string, user_id: string, row: Row = {}) =>
  insert(db, 'escrow_parties', { escrow_id, user_id, role: 'buyer', ...row });
