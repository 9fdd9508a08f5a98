-- The outbox: an append-only table that every event passes through, partitioned by id so that old events are dropped, never deleted.

-- Two outboxes in one database would share the advisory keys of 0002 and hold back each other's horizon.
do $$
declare
  other text;
begin
  select n.nspname into other
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
   where c.relname = 'outbox_meta' and c.relkind = 'r' and n.nspname <> current_schema();
  if found then
    raise exception 'schema "%" of this database already holds an outbox: a database can have only one', other
      using hint = 'Use that schema (put it first in search_path), or another database.';
  end if;
end
$$;

-- Starts at 0 and is called once here, so that its last_value always means "the last id that was given out".
-- CACHE 1: a session that kept ids back would use them long after others had used later ones.
-- Ids stay below 2^48, because an advisory key carries one in its lower 48 bits.
create sequence outbox_id_seq as bigint minvalue 0 maxvalue 281474976710655 start 0 cache 1 no cycle;
select nextval('outbox_id_seq');
comment on sequence outbox_id_seq is
  'Ids of outbox rows; only outbox_append() takes them. CACHE must stay 1: the ordering protocol depends on it.';

-- Domains rather than CHECKs of the table: Postgres parses a CHECK's stored expression anew for every INSERT statement, which cost a
-- writer of one event as much as the insert itself; a domain's it keeps ready. (Likewise the length stands apart: {1,128} is slow.)
create domain outbox_topic as text
  constraint outbox_topic_grammar check (value ~ '^[a-z]+:[A-Za-z0-9_.-]+$' and length(value) - strpos(value, ':') <= 128);
create domain outbox_type as text
  constraint outbox_type_grammar check (value ~ '^[a-z]+:[a-z_]+$');
comment on domain outbox_topic is 'kind:key; the key has letters, digits, "_", "." and "-", 128 at most.';
comment on domain outbox_type is 'Two lower-case words with a colon between them.';

create table outbox (
  id bigint not null,
  topic outbox_topic not null,
  type outbox_type not null,
  data json not null,
  txid xid8 not null,
  created_at timestamptz not null,
  constraint outbox_pkey primary key (id)
) partition by range (id);
create index outbox_topic_id on outbox (topic, id);

comment on table outbox is
  'Every event, in order. Append-only: rows come from outbox_append() and go when their partition is dropped. Read it with outbox_read() or with plain SQL; read on from an id only with outbox_read().';
comment on column outbox.id is 'The order of events and the SSE id. Unique, rising, with gaps where a transaction rolled back.';
comment on column outbox.topic is 'Who it concerns: kind:key, such as stream:{uuid}, escrow:{uuid}, user:{uuid} or wallet:{address}.';
comment on column outbox.type is 'What happened, such as escrow:status_changed; the SSE event name.';
comment on column outbox.data is 'The payload as sent: JSON on one line, money as strings, no personal data.';
comment on column outbox.txid is 'The transaction that appended it: rows with one txid were committed together.';
comment on column outbox.created_at is 'When it was appended; with deferred triggers, the moment of commit.';

-- Catches rows for which no partition was made in time, so that no business transaction ever fails for want of one.
create table outbox_default partition of outbox default;
comment on table outbox_default is 'Events that no partition was ready for; empty while outbox_add_partitions() runs in time.';

create table outbox_meta (
  only_row boolean not null default true,
  epoch uuid not null default gen_random_uuid(),
  system_identifier bigint not null,
  timeline integer not null,
  table_oid oid not null,
  first_id bigint not null default 0,
  dropped_through bigint not null default 0,
  partition_ids bigint not null default 1000000,
  constraint outbox_meta_pkey primary key (only_row),
  constraint outbox_meta_one_row check (only_row),
  constraint outbox_meta_first_id_positive check (first_id >= 0),
  constraint outbox_meta_dropped_through_positive check (dropped_through >= 0),
  constraint outbox_meta_partition_ids_sane check (partition_ids between 1 and 1000000000)
);
comment on table outbox_meta is 'One row: which history the ids belong to, and where it begins.';
comment on column outbox_meta.only_row is 'Always true: the table holds one row.';
comment on column outbox_meta.epoch is 'Names this history of ids; a new one after a restore or a promotion, see outbox_new_epoch().';
comment on column outbox_meta.system_identifier is 'pg_control_system() of the cluster that this epoch began on.';
comment on column outbox_meta.timeline is 'WAL timeline on which this epoch began.';
comment on column outbox_meta.table_oid is 'This table''s oid when the epoch began: a logical restore makes the table anew.';
comment on column outbox_meta.first_id is 'Cursors below it belong to an earlier epoch: their readers get a reset.';
comment on column outbox_meta.dropped_through is 'Every event up to this id has been dropped by retention: readers behind it get a reset.';
comment on column outbox_meta.partition_ids is 'How many ids the next partitions span; change it freely, made partitions keep theirs.';

-- Of the WAL that is being written: pg_control_checkpoint() learns of a promotion only with the next checkpoint.
create function outbox_timeline() returns integer language sql volatile
return ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer;
comment on function outbox_timeline() is 'Internal: the WAL timeline that this cluster writes now; raises on a standby.';

insert into outbox_meta (system_identifier, timeline, table_oid)
select s.system_identifier, outbox_timeline(), 'outbox_meta'::regclass from pg_control_system() s;

-- Makes partitions until `ahead` of them lie wholly above the last id given out; returns how many it made.
-- ATTACH takes SHARE UPDATE EXCLUSIVE on the outbox, which no reader or writer meets; only outbox_default is locked
-- fully, and only for as long as lock_timeout allows: whoever fails on it tries again later, the default partition catches rows meanwhile.
-- While it does, the new partition begins where writers are. One that has found its way to the default partition, and then waits for ATTACH,
-- would fail on that partition's new bounds; so then writers are made to wait before they take an id, and find their way after it.
create function outbox_add_partitions(ahead integer default 4) returns integer
language plpgsql volatile security definer set lock_timeout = '100ms' set search_path from current as $$
declare
  width bigint;
  next_from bigint;
  last_id bigint := coalesce(pg_sequence_last_value('outbox_id_seq'), 0);
  name text;
  made integer := 0;
begin
  -- One maker at a time; the others find its partitions made.
  select m.partition_ids into width from outbox_meta m for update;
  select coalesce(max(substring(pg_get_expr(c.relpartbound, c.oid) from $re$TO \('(\d+)'\)$re$)::bigint), 0)
    into next_from
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
   where i.inhparent = 'outbox'::regclass;
  if last_id + 1 >= next_from then
    lock table only outbox in share row exclusive mode;
    last_id := coalesce(pg_sequence_last_value('outbox_id_seq'), 0);
  end if;
  -- Ids that a new epoch has leapt over need no partition; rows that already sit in the default partition stay there.
  next_from := greatest(next_from, last_id - last_id % width, (select coalesce(max(d.id) + 1, 0) from outbox_default d));
  while (next_from - 1 - last_id) / width < ahead and next_from + width < 281474976710656 loop
    name := 'outbox_p' || next_from;
    execute format('create table %I (like outbox including defaults including constraints)', name);
    execute format('comment on table %I is %L', name, format('Events with ids from %s to %s.', next_from, next_from + width - 1));
    execute format('alter table outbox attach partition %I for values from (%L) to (%L)', name, next_from, next_from + width);
    next_from := next_from + width;
    made := made + 1;
  end loop;
  return made;
end
$$;
comment on function outbox_add_partitions(integer) is
  'Makes partitions ahead of the sequence; returns how many it made. Safe at any time: it waits 100 ms at most for a lock, then fails and can be called again.';

-- Drops partitions all of whose events are older than `before`, and that the horizon has passed: a writer in flight may still hold
-- an id of a partition whose other events are old, and its event would then land behind every reader.
create function outbox_drop_partitions(before timestamptz) returns integer
language plpgsql volatile security definer set lock_timeout = '100ms' set search_path from current as $$
declare
  part record;
  newest timestamptz;
  settled bigint;
  dropped integer := 0;
begin
  perform from outbox_meta for update;
  settled := outbox_horizon();
  for part in
    select c.relname, b.to_id
      from pg_inherits i
      join pg_class c on c.oid = i.inhrelid,
           lateral (select substring(pg_get_expr(c.relpartbound, c.oid) from $re$TO \('(\d+)'\)$re$)::bigint as to_id) b
     where i.inhparent = 'outbox'::regclass and b.to_id is not null
     order by b.to_id
  loop
    exit when settled < part.to_id - 1 or not exists (select from outbox o where o.id >= part.to_id);
    execute format('select created_at from %I order by id desc limit 1', part.relname) into newest;
    exit when newest >= before;
    execute format('drop table %I', part.relname);
    update outbox_meta set dropped_through = part.to_id - 1;
    dropped := dropped + 1;
  end loop;
  return dropped;
end
$$;
comment on function outbox_drop_partitions(timestamptz) is
  'Drops partitions whose events are all older than the given time; returns how many. Readers behind them get a reset. Waits 100 ms at most for a lock.';

select outbox_add_partitions();

revoke all on function outbox_timeline(), outbox_add_partitions(integer), outbox_drop_partitions(timestamptz) from public;
revoke all on outbox, outbox_default, outbox_meta, outbox_id_seq from public;
