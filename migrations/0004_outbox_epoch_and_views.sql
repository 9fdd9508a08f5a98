-- Epochs, and the views for people.

-- After a restore or a promotion ids may be given out a second time. A new epoch moves the sequence past every id that can have
-- been given out, and first_id with it, so that every older cursor is recognised by its number alone. "Every id" includes those
-- of histories that this database knows nothing of: the commits that a backup lacks, or an earlier restore of the same backup.
-- So an epoch begins at an id that the clock names, 100,000 for every second since 2020: no history that gives out fewer than that
-- has come so far. (A fixed leap from the last id would give two restores of one backup the same ids.) It lasts until 2109.
create function outbox_new_epoch() returns uuid
language plpgsql volatile security definer set lock_timeout = '5s' set search_path from current as $$
declare
  known_id bigint;
  start_id bigint := (extract(epoch from clock_timestamp())::bigint - 1577836800) * 100000;
  opened uuid := gen_random_uuid();
  patience timestamptz := clock_timestamp() + interval '5 seconds';
begin
  perform from outbox_meta for update;
  -- A logical copy may have brought rows and epoch, and left the sequence behind.
  select greatest(coalesce(pg_sequence_last_value('outbox_id_seq'), 0), m.first_id, (select max(o.id) from outbox o)) into known_id from outbox_meta m;
  -- Those who have an id already are waited for twice, here before the leap: that is never undone, so an attempt that they make
  -- fail must not have leapt.
  while exists (select from outbox_inflight i where i.horizon < known_id and i.pid is distinct from pg_backend_pid()) loop
    if clock_timestamp() > patience then
      raise exception 'a new epoch cannot begin: transactions with events are still in flight'
        using errcode = 'object_in_use', hint = 'outbox_inflight shows them. End them, or try again later.';
    end if;
    perform pg_sleep(0.005);
  end loop;
  -- Only a clock that has gone back is behind.
  if start_id <= known_id then
    start_id := known_id + 1000000000;
  end if;
  perform setval('outbox_id_seq', start_id);
  update outbox_meta m
     set epoch = opened, first_id = start_id,
         system_identifier = (select s.system_identifier from pg_control_system() s),
         timeline = outbox_timeline(), table_oid = 'outbox_meta'::regclass;
  -- A writer that took its id before the leap may still commit below first_id, where nobody reads. It must have ended before
  -- anybody hears of the new epoch: whoever then takes the state again has its change.
  while exists (select from outbox_inflight i where i.horizon < start_id and i.pid is distinct from pg_backend_pid()) loop
    if clock_timestamp() > patience then
      raise exception 'a new epoch cannot begin: transactions with events are still in flight'
        using errcode = 'object_in_use', hint = 'outbox_inflight shows them. End them, or try again later.';
    end if;
    perform pg_sleep(0.005);
  end loop;
  -- Or what comes until an instance makes partitions would stay in the default one. An epoch does not fail for want of them.
  begin
    perform outbox_add_partitions();
  exception
    when others then null;
  end;
  return opened;
end
$$;
comment on function outbox_new_epoch() is
  'Begins a new history of ids: call it after restoring a backup in place. Every client gets a reset and takes the state again.';

create function outbox_is_elsewhere() returns boolean
language sql volatile set search_path from current as $$
  select m.system_identifier <> s.system_identifier or m.timeline <> outbox_timeline() or m.table_oid <> 'outbox_meta'::regclass
    from outbox_meta m, pg_control_system() s
$$;
comment on function outbox_is_elsewhere() is
  'Internal: whether the current epoch began on another cluster, another timeline or another copy of these tables.';

create function outbox_follow_epoch() returns uuid
language plpgsql volatile security definer set lock_timeout = '5s' set search_path from current as $$
begin
  if outbox_is_elsewhere() then
    perform from outbox_meta for update;
    -- Another instance may have opened it while this one waited.
    if outbox_is_elsewhere() then
      return outbox_new_epoch();
    end if;
  end if;
  return (select m.epoch from outbox_meta m);
end
$$;
comment on function outbox_follow_epoch() is
  'Internal: opens a new epoch if outbox_is_elsewhere(); returns the epoch.';

create function outbox_replace_epoch(replaced uuid) returns uuid
language plpgsql volatile security definer set lock_timeout = '5s' set search_path from current as $$
begin
  perform from outbox_meta m where m.epoch = replaced for update;
  if found then
    return outbox_new_epoch();
  end if;
  return (select m.epoch from outbox_meta m);
end
$$;
comment on function outbox_replace_epoch(uuid) is
  'Internal: opens a new epoch unless the given one has been replaced already; returns the epoch.';

create view outbox_recent as
select o.id, o.created_at, o.topic, o.type, o.data from outbox o order by o.id desc limit 100;
comment on view outbox_recent is 'The last 100 events, newest first.';
comment on column outbox_recent.id is 'As in outbox.';
comment on column outbox_recent.created_at is 'As in outbox.';
comment on column outbox_recent.topic is 'As in outbox.';
comment on column outbox_recent.type is 'As in outbox.';
comment on column outbox_recent.data is 'As in outbox.';

create view outbox_partitions as
select c.relname::text as partition, b.from_id, b.to_id, first_row.id as oldest_id, first_row.created_at as oldest,
       last_row.id as newest_id, last_row.created_at as newest, rate.events_last_minute,
       pg_total_relation_size(c.oid) as bytes
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid,
       lateral (select substring(pg_get_expr(c.relpartbound, c.oid) from $re$FROM \('(\d+)'\)$re$)::bigint as from_id,
                       substring(pg_get_expr(c.relpartbound, c.oid) from $re$TO \('(\d+)'\)$re$)::bigint as to_id) b
       left join lateral (select o.id, o.created_at from outbox o
                           where o.tableoid = c.oid and o.id >= coalesce(b.from_id, 0) and o.id < coalesce(b.to_id, 281474976710656)
                           order by o.id limit 1) first_row on true
       left join lateral (select o.id, o.created_at from outbox o
                           where o.tableoid = c.oid and o.id >= coalesce(b.from_id, 0) and o.id < coalesce(b.to_id, 281474976710656)
                           order by o.id desc limit 1) last_row on true
       left join lateral (select count(*) as events_last_minute
                            from (select o.created_at from outbox o
                                   where o.tableoid = c.oid and o.id > last_row.id - 100000 and o.id <= last_row.id) o
                           where o.created_at > clock_timestamp() - interval '1 minute') rate on true
 where i.inhparent = 'outbox'::regclass
 order by b.from_id nulls last;
comment on view outbox_partitions is 'A line per partition: what it spans, holds and weighs, and how many events it took in the last minute.';
comment on column outbox_partitions.partition is 'Table name of the partition.';
comment on column outbox_partitions.from_id is 'First id it may hold; null for the default partition.';
comment on column outbox_partitions.to_id is 'First id it may no longer hold; null for the default partition.';
comment on column outbox_partitions.oldest_id is 'Smallest id in it.';
comment on column outbox_partitions.oldest is 'When that was appended.';
comment on column outbox_partitions.newest_id is 'Highest id in it.';
comment on column outbox_partitions.newest is 'When that was appended.';
comment on column outbox_partitions.events_last_minute is 'Events of the last minute among its newest 100,000 ids.';
comment on column outbox_partitions.bytes is 'Size on disk with its indexes.';

-- What a DBA sees of the doorbell and of ordering. L and the locks are looked at in one statement, so `horizon` is for people to look at.
create view outbox_stats as
select sessions.relays, sessions.relays_listening,
       (select count(*) from pg_locks x
         where x.locktype = 'advisory' and x.objsubid = 1 and x.classid::bigint >> 16 = 21336 and x.mode = 'ShareLock' and x.granted
           and x.database = (select d.oid from pg_database d where d.datname = current_database())) as relays_asleep,
       writers.writers_in_flight, holder.pid as held_by, clock_timestamp() - holder.since as held_for,
       ids.last_id, bound.horizon, ids.last_id - bound.horizon as behind,
       (select clock_timestamp() - o.created_at from outbox o where o.id > bound.horizon order by o.id limit 1) as lag,
       partitions.events_last_minute, partitions.oldest, partitions.newest, partitions.bytes, partitions.partition_bytes,
       pg_notification_queue_usage() as notify_queue
  from (select count(*) filter (where a.application_name = 'settlewire relay') as relays,
               count(*) filter (where a.application_name = 'settlewire listen') as relays_listening
          from pg_stat_activity a where a.datname = current_database()) sessions
 cross join (select pg_sequence_last_value('outbox_id_seq') as last_id) ids
 cross join (select count(*) as writers_in_flight, min(i.horizon) as horizon from outbox_inflight i) writers
 cross join (select sum(p.events_last_minute)::bigint as events_last_minute, min(p.oldest) as oldest, max(p.newest) as newest,
                    sum(p.bytes)::bigint as bytes, jsonb_object_agg(p.partition, p.bytes) as partition_bytes from outbox_partitions p) partitions
  left join (select i.pid, i.since from outbox_inflight i order by i.horizon, i.since limit 1) holder on true
 cross join lateral (select case when pg_is_in_recovery() then null else least(ids.last_id, writers.horizon) end as horizon) bound;
comment on view outbox_stats is
  'One line: relays and their doorbell, writers in flight, horizon, lag, rate, size. What an instance alone knows is in its metrics: rings, reads, batch sizes, the time until an event was handed on.';
comment on column outbox_stats.relays is 'Relays connected to this database: sessions whose application_name is settlewire relay.';
comment on column outbox_stats.relays_listening is 'Their sessions that LISTEN. Fewer than relays: some poll because they cannot listen.';
comment on column outbox_stats.relays_asleep is 'Sessions that hold the doorbell key. While there is one, commits with events NOTIFY; 0: all relays poll, or there is none.';
comment on column outbox_stats.writers_in_flight is 'Transactions that may still commit events, see outbox_inflight. On a standby always 0.';
comment on column outbox_stats.held_by is 'Of these the backend that holds back readers the most.';
comment on column outbox_stats.held_for is 'How long its transaction has lasted; null to roles that may not see it (pg_read_all_stats).';
comment on column outbox_stats.last_id is 'The last id that was given out; null to roles without SELECT on the sequence. On a standby up to 32 too high.';
comment on column outbox_stats.horizon is 'No reader gets an event above this id now. Only to look at: see outbox_horizon(). Null on a standby.';
comment on column outbox_stats.behind is 'Ids above the horizon: above 0 for milliseconds while writers commit; if it stays, look at held_by.';
comment on column outbox_stats.lag is 'How long the first committed event above the horizon has been waiting for a writer before it; null: none waits.';
comment on column outbox_stats.events_last_minute is 'As in outbox_partitions, of all of them.';
comment on column outbox_stats.oldest is 'When the oldest event was appended.';
comment on column outbox_stats.newest is 'When the newest event was appended.';
comment on column outbox_stats.bytes is 'Size on disk with indexes.';
comment on column outbox_stats.partition_bytes is 'The same of each partition, by name; outbox_partitions has more of them.';
comment on column outbox_stats.notify_queue is 'How full the queue of NOTIFY is, of the whole cluster: 0 to 1. At 1 every commit that rings fails: a session listens and never ends its transaction.';

revoke all on function outbox_new_epoch(), outbox_is_elsewhere(), outbox_follow_epoch(), outbox_replace_epoch(uuid) from public;
revoke all on outbox_recent, outbox_partitions, outbox_stats from public;
