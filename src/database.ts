import { Socket } from 'node:net';
import { type ColumnType, type Generated, Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';

/** Tables that the service reads (design section 5); money is a decimal string, as `numeric` comes from the driver. */
export interface Database {
  outbox_meta: OutboxMetaTable;
  users: UserTable;
  streams: StreamTable;
  settlements: SettlementTable;
  escrows: EscrowTable;
  escrow_parties: EscrowPartyTable;
  escrow_conditions: EscrowConditionTable;
  disputes: DisputeTable;
  notifications: NotificationTable;
}

type NullableTimestamp = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>;
type MadeTimestamp = ColumnType<Date, Date | string | undefined, Date | string>;
type Money = ColumnType<string, string | number, string | number>;
type NullableMoney = ColumnType<string | null, string | number | null | undefined, string | number | null>;

export interface OutboxMetaTable {
  only_row: Generated<boolean>;
  epoch: Generated<string>;
  /** Text, as are all bigints that a number cannot hold. */
  system_identifier: string;
  timeline: number;
  first_id: Generated<number>;
  dropped_through: Generated<number>;
  partition_ids: Generated<number>;
}

export interface UserTable {
  id: Generated<string>;
  wallet_address: string | null;
  role: Generated<'USER' | 'ADMIN' | 'SUPER_ADMIN'>;
  is_active: Generated<boolean>;
}

export type StreamStatus = 'draft' | 'active' | 'paused' | 'completed' | 'ended' | 'withdrawn' | 'cancelled';

export interface StreamTable {
  id: Generated<string>;
  payer: string;
  recipient: string;
  status: Generated<StreamStatus>;
  rate_per_second: Money;
  total_amount: Money;
  start_time: NullableTimestamp;
  end_time: NullableTimestamp;
  last_settled_at: NullableTimestamp;
  chain_id: string | null;
  transaction_hash: string | null;
  label: string | null;
  off_chain_memo: string | null;
  created_at: MadeTimestamp;
  updated_at: MadeTimestamp;
}

export interface SettlementTable {
  id: Generated<string>;
  stream_id: string;
  status: Generated<'pending' | 'succeeded' | 'failed'>;
  amount: Money;
  asset: string;
  tx_hash: string | null;
  failure_code: string | null;
  requested_at: MadeTimestamp;
  finished_at: NullableTimestamp;
}

export type EscrowStatus = 'pending' | 'active' | 'completed' | 'cancelled' | 'disputed' | 'expired';
export type EscrowRole = 'buyer' | 'seller' | 'arbitrator';

export interface EscrowTable {
  id: Generated<string>;
  title: Generated<string>;
  description: string | null;
  amount: Money;
  released_amount: Generated<string>;
  asset_code: Generated<string>;
  asset_issuer: string | null;
  status: Generated<EscrowStatus>;
  type: Generated<'standard' | 'milestone' | 'timed'>;
  creator_id: string;
  transaction_hash: string | null;
  funded_at: NullableTimestamp;
  expires_at: NullableTimestamp;
  created_at: MadeTimestamp;
  updated_at: MadeTimestamp;
}

export interface EscrowPartyTable {
  id: Generated<string>;
  escrow_id: string;
  user_id: string;
  role: EscrowRole;
  status: Generated<'pending' | 'accepted' | 'rejected'>;
  responded_at: NullableTimestamp;
}

export interface EscrowConditionTable {
  id: Generated<string>;
  escrow_id: string;
  type: Generated<'manual' | 'time_based' | 'oracle'>;
  description: string | null;
  amount: NullableMoney;
  is_fulfilled: Generated<boolean>;
  is_met: Generated<boolean>;
  is_released: Generated<boolean>;
  released_at: NullableTimestamp;
  tx_hash: string | null;
}

export interface DisputeTable {
  id: Generated<string>;
  escrow_id: string;
  filed_by_user_id: string;
  reason: string | null;
  evidence: string | null;
  status: Generated<'open' | 'under_review' | 'resolved'>;
  outcome: 'released_to_seller' | 'refunded_to_buyer' | 'split' | null;
  seller_percent: NullableMoney;
  buyer_percent: NullableMoney;
  resolved_at: NullableTimestamp;
}

export interface NotificationTable {
  id: Generated<string>;
  user_id: string;
  escrow_id: string | null;
  event_type: string;
  payload: ColumnType<unknown, string | null | undefined, string | null>;
  status: Generated<'pending' | 'sent' | 'failed'>;
  read_at: NullableTimestamp;
  created_at: MadeTimestamp;
}

/** A service's database that says nothing for so long in the middle of a query has gone, in milliseconds; whoever asked is told to come again. */
export const DATABASE_SILENCE_MS = 5000;

export interface PoolOptions {
  /** Most connections that the pool opens. */
  readonly max: number;
  readonly applicationName?: string;
  /**
   * Longest time in milliseconds to wait for a connection, and for the database to say something on one; left out: no limit. A connection
   * that the network has swallowed would else be waited for until the kernel gives up, and keep its place in the pool.
   */
  readonly silenceMs?: number;
  /** Told of connections that broke while idle; the pool has already let go of them. */
  readonly onIdleError?: (error: Error) => void;
}

/**
 * A pool whose bigints are numbers where a number holds them exactly (ids stay below 2^48) and text where not
 * (a system identifier). A connection that breaks while idle is replaced, and never ends the process.
 */
export function createPool(
  url: string,
  { max, applicationName = 'settlewire', silenceMs, onIdleError }: PoolOptions,
): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    application_name: applicationName,
    types: exactTypes,
    ...(silenceMs === undefined ? {} : giveUpAfter(silenceMs)),
  });
  pool.on('error', (error) => onIdleError?.(error));
  return pool;
}

// The socket's own time-out rather than pg's query_timeout: it ends the connection with the query, whoever holds it.
function giveUpAfter(silenceMs: number): pg.PoolConfig {
  return {
    connectionTimeoutMillis: silenceMs,
    // Out of use, it is closed before its silence means anything.
    idleTimeoutMillis: silenceMs * 0.8,
    keepAlive: true,
    stream: () => {
      const socket = new Socket();
      socket.setTimeout(silenceMs, () =>
        socket.destroy(new Error(`the database has said nothing for ${silenceMs} ms`)),
      );
      return socket;
    },
  };
}

/** A query builder on the pool; destroying it ends the pool. */
export function createKysely(pool: pg.Pool): Kysely<Database> {
  return new Kysely<Database>({ dialect: new PostgresDialect({ pool }) });
}

// Scoped to our pools: another library's use of `pg` in the same process keeps its own idea of a bigint.
const exactTypes: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === pg.types.builtins.INT8 && format !== 'binary'
      ? exactNumber
      : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};

function exactNumber(text: string): number | string {
  const number = Number(text);
  return Number.isSafeInteger(number) ? number : text;
}
