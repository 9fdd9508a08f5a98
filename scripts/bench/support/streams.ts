import { migrate } from '../../../src/migrate.ts';
import { grantService } from '../../../test/support/service-role.ts';
import { mintToken } from '../../../test/support/tokens.ts';
import type { BenchPostgres } from './postgres.ts';

/** Streams that writers update by turns. */
export const STREAMS = 10_000;
/** Wallets that pay them, each as many as the others. */
export const WALLETS = 100;

/** The update of one random stream, as pgbench runs it: one row, one commit, one event. */
export const UPDATE_SCRIPT = `\\set n random(1, ${STREAMS})
update streams set last_settled_at = clock_timestamp(), updated_at = clock_timestamp() where id = lpad(:n::text, 32, '0')::uuid;
`;

/** The id of stream number `n`, from 1. */
export function streamId(n: number): string {
  const digits = String(n).padStart(32, '0');
  return [
    [0, 8],
    [8, 12],
    [12, 16],
    [16, 20],
    [20, 32],
  ]
    .map(([from, to]) => digits.slice(from, to))
    .join('-');
}

/** A token that speaks for wallet number `n`, from 0. */
export function walletToken(n: number): string {
  return mintToken({ sub: `payer${n}` });
}

/** A database with settlewire's schema and streams, made from scratch. */
export async function createDatabase(postgres: BenchPostgres, database: string): Promise<void> {
  await postgres.query('postgres', `create database ${database}`);
  await migrate({ connectionString: postgres.url(database), set: 'all' });
  await grantService(postgres.url(database));
  await postgres.query(
    database,
    `insert into streams (id, payer, recipient, status, rate_per_second, total_amount)
     select lpad(n::text, 32, '0')::uuid, 'payer' || n % ${WALLETS}, 'recipient', 'active', 0.001, 1000
       from generate_series(1, ${STREAMS}) n`,
  );
}

const withoutTriggers = (which: string): string => `
do $$
declare name text;
begin
  for name in select tgname from pg_trigger where tgrelid = 'streams'::regclass and not tgisinternal and ${which} loop
    execute format('drop trigger %I on streams', name);
  end loop;
end
$$;
`;

/** Takes every trigger off the streams. */
export const NO_TRIGGERS = withoutTriggers('true');

/** Takes off what makes events; what keeps updated_at and normal wallets (BEFORE, 2 in tgtype) is the table's own, however its changes are told. */
export const NO_EVENT_TRIGGERS = withoutTriggers('tgtype & 2 = 0');

/** The same with nothing of settlewire's but the tables: a trigger notifies the row's id on the channel `bare`. */
export async function createBareDatabase(postgres: BenchPostgres, database: string): Promise<void> {
  await createDatabase(postgres, database);
  await postgres.query(
    database,
    `${NO_TRIGGERS}
     create function bare() returns trigger language plpgsql as $$
     begin
       perform pg_notify('bare', new.id::text);
       return null;
     end
     $$;
     create trigger bare after update on streams for each row execute function bare();`,
  );
}

/** One more stream, apart from those that writers update by turns. */
export function insertStream(id: string, payer: string): string {
  return `insert into streams (id, payer, recipient, status, rate_per_second, total_amount)
          values ('${id}', '${payer}', 'recipient', 'active', 0.001, 0)`;
}
