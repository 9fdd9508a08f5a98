import type { BenchPostgres } from './postgres.ts';
import { createDatabase, NO_EVENT_TRIGGERS, NO_TRIGGERS } from './streams.ts';

export interface Variant {
  readonly name: 'none' | 'notify' | 'outbox' | 'delivered' | 'alone' | 'settlewire';
  readonly label: string;
}

export const VARIANTS: readonly Variant[] = [
  { name: 'none', label: 'a: no trigger' },
  { name: 'notify', label: 'b: trigger + pg_notify' },
  { name: 'outbox', label: 'c: plain outbox' },
  { name: 'delivered', label: 'c, delivered' },
  { name: 'alone', label: 'd, nobody listening' },
  { name: 'settlewire', label: 'd: settlewire' },
];

/** The payload of stream:updated, as settlewire's own trigger builds it (migrations/0011). */
const PAYLOAD = `json_build_object(
    'streamId', new.id,
    'status', new.status,
    'previousStatus', old.status,
    'ratePerSecond', new.rate_per_second::text,
    'totalAmount', new.total_amount::text,
    'lastSettledAt', outbox_time(new.last_settled_at),
    'endTime', outbox_time(new.end_time),
    'updatedAt', outbox_time(new.updated_at))`;

const WHEN = `when (
    new.status is distinct from old.status
    or new.rate_per_second is distinct from old.rate_per_second
    or new.total_amount is distinct from old.total_amount
    or new.end_time is distinct from old.end_time
    or new.last_settled_at is distinct from old.last_settled_at
  )`;

/** The trigger function of (c); `type` is SQL for the event's type. */
const plainTrigger = (type: string): string => `
    create or replace function plain() returns trigger language plpgsql as $$
    begin
      insert into plain_outbox (topic, type, data, created_at)
      values ('stream:' || new.id, ${type}, ${PAYLOAD}, clock_timestamp());
      return null;
    end
    $$;`;
// With the index that a replay by topic needs; no partitions, no checks, no rights, no order.
const PLAIN_OUTBOX = `${NO_EVENT_TRIGGERS}
    create table plain_outbox (
      id bigserial primary key, topic text not null, type text not null, data json not null, created_at timestamptz not null
    );
    create index on plain_outbox (topic, id);
    ${plainTrigger("'stream:updated'")}
    create constraint trigger plain after update on streams deferrable initially deferred
      for each row ${WHEN} execute function plain();`;

/** Has the sessions of (c) keep their memory between transactions, as those of settlewire do: `outbox_keep_heap()` of migrations/0018, put into its one statement. */
export const PLAIN_KEEPING_HEAP = plainTrigger(
  "case when octet_length(repeat(repeat(' ', 512), 512)) > 0 then 'stream:updated' end",
);
/** Has settlewire's sessions hand their memory back, as those of (c) do. */
export const KEEPING_NO_HEAP = `create or replace function outbox_keep_heap() returns boolean language sql immutable parallel safe return true`;

const SETUP: Readonly<Record<Variant['name'], string>> = {
  none: NO_TRIGGERS,
  notify: `${NO_EVENT_TRIGGERS}
    create function usual() returns trigger language plpgsql as $$
    begin
      perform pg_notify('usual', ${PAYLOAD}::text);
      return null;
    end
    $$;
    create trigger usual after update on streams for each row ${WHEN} execute function usual();`,
  outbox: PLAIN_OUTBOX,
  delivered: PLAIN_OUTBOX,
  alone: '',
  settlewire: '',
};

/** One database for each variant, alike in everything but the triggers on streams: (a) has none at all, the others keep the table's own. */
export async function createVariants(postgres: BenchPostgres): Promise<void> {
  for (const { name } of VARIANTS) await createVariant(postgres, name, `bench_${name}`);
}

/** A database as that variant has it. */
export async function createVariant(
  postgres: BenchPostgres,
  name: Variant['name'],
  database: string,
): Promise<void> {
  await createDatabase(postgres, database);
  if (SETUP[name] !== '') await postgres.query(database, SETUP[name]);
  await postgres.query(database, 'vacuum analyze');
}
