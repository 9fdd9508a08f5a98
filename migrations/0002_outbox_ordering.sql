-- Ordering and the doorbell: how readers of the outbox miss nothing although writers never wait for one another.
--
-- Ids come from a sequence and rows become visible at commit, so a reader that goes on from the highest id it saw would skip
-- a lower id that commits later. Therefore:
--
--   A writer, once per transaction and BEFORE its first nextval, takes a SHARED transaction-level advisory lock whose key
--   carries K, the sequence's last_value at that moment. Every id it takes is greater than K. Shared locks do not conflict:
--   no writer waits for another. The lock goes at the end of the transaction, after its rows have become visible.
--
--   A reader takes, in this order and each with a snapshot of its own,
--     1. L := last_value of the sequence
--     2. M := the smallest K among the locks held now
--     3. the rows up to the horizon, least(L, M).
--
-- An id at or below L was taken before step 1, so its transaction held its lock by then with K < id. At step 2 it either
-- still holds it, then M < id and the id lies above the horizon; or it has ended, and step 3 sees its rows if it committed.
-- An id that was rolled back never appears and holds nothing up.
--
-- Rows that follow a cursor without a gap need no horizon, and so no look at the locks, which is most of what a read costs: nothing at
-- or below the cursor can still appear, and each id above it is that of a row which is visible already. So a relay that is rung hands
-- on these first. That says nothing about writers in flight: it waits only after a read of the other kind.
--
-- The doorbell: NOTIFY takes a cluster-wide lock over the commit's disk flush, so writers ring only if somebody sleeps.
-- A sleeping relay holds the doorbell key SHARED, on its session; a writer tries it EXCLUSIVE without waiting and NOTIFYs
-- only when that fails. The writer marks itself in flight before it tries; the relay takes the key, then looks for writers
-- in flight, then makes sure that every id taken by then was within its read; only then it sleeps. So either the writer sees the
-- sleeper, or the sleeper sees the writer or has its rows. test/model/ checks it.
--
-- Advisory keys, by their top 16 bits: 21335 in-flight writers (K in the lower 48), 21336 the doorbell, 21337 house-keeping.

-- A function rather than a setting, so that no writer can change it; replace it to change the limit.
create function outbox_max_event_bytes() returns integer language sql immutable parallel safe return 16384;
comment on function outbox_max_event_bytes() is
  'Largest payload in bytes of what is published; a larger one is replaced by {"oversize":true,"bytes":n}. CREATE OR REPLACE it to change the limit. Events of our own tables are below 2,048 and not measured.';

-- The writer's part of the protocol, as one expression that the planner puts into the statement that inserts the row. Written out
-- in PL/pgSQL its steps were statements with a snapshot and an executor each, a third of what an event cost its writer. CASE
-- evaluates in the order in which it is written and no more than it needs; each `then null` below never happens.
--
--   1. An event that was delivered must survive a crash, or its id would be given out again for another one: no asynchronous commit.
--   2. A transaction that has its lock takes the same one again (which costs no shared memory access) and the next id. The mark only
--      says which lock that is, so a forged mark is no way round it: what counts is that the lock is held before nextval and that
--      K < id, and K is no higher than last_value before that. All that a forger loses is the ring for events of their own.
--   3. Else it marks itself: K, the mark, the lock; if a stranger holds that key, as outbox_mark_lower() does it.
--   4. It tries the doorbell (try and release are one expression: between two statements a cancelled writer would keep the lock),
--      and rings if somebody sleeps.
--   5. It takes its id.
create function outbox_mark_lower() returns boolean
language plpgsql volatile set search_path from current as $$
declare
  k bigint := coalesce(pg_sequence_last_value('outbox_id_seq'), 0);
begin
  -- Only a stranger holds such a key exclusively. A lower K is as true, so no commit waits for them: down by a step that nobody
  -- can foresee, and again, to 0, of which there is but one.
  while not pg_try_advisory_xact_lock_shared((21335::bigint << 48) | k) loop
    if k = 0 then
      perform pg_advisory_xact_lock_shared(21335::bigint << 48);
      exit;
    end if;
    k := greatest(k - 1 - floor(random() * 1000)::bigint, 0);
  end loop;
  perform set_config('settlewire.in_flight', k::text, true);
  return true;
end
$$;
comment on function outbox_mark_lower() is
  'Internal: marks the transaction as in flight with a lower key than its own, because a stranger holds that one; returns true.';

create function outbox_next_id() returns bigint language sql volatile
return case
  when case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'local', true) is null else false end
    then null
  when case when current_setting('settlewire.in_flight', true) !~ '^[0-9]{1,15}$' then false
            when current_setting('settlewire.in_flight', true)::bigint <= coalesce(pg_sequence_last_value('outbox_id_seq'), 0)
            then pg_try_advisory_xact_lock_shared((21335::bigint << 48) | current_setting('settlewire.in_flight', true)::bigint)
            else false end
    then nextval('outbox_id_seq')
  when case when pg_try_advisory_xact_lock_shared((21335::bigint << 48)
                   | set_config('settlewire.in_flight', coalesce(pg_sequence_last_value('outbox_id_seq'), 0)::text, true)::bigint)
            then false else not outbox_mark_lower() end
    then null
  when case when pg_try_advisory_lock(21336::bigint << 48) then pg_advisory_unlock(21336::bigint << 48) else false end
    then nextval('outbox_id_seq')
  when pg_notify('outbox', '') is null
    then null
  else nextval('outbox_id_seq')
end;
comment on function outbox_next_id() is
  'Internal: marks the transaction as in flight, rings if a relay sleeps, and returns the next id.';

-- What the triggers of 0011 insert into: a plain updatable view, which the planner replaces by the table and these defaults.
create view outbox_appending as select o.id, o.topic, o.type, o.data, o.txid, o.created_at from outbox o;
alter view outbox_appending
  alter id set default outbox_next_id(),
  alter txid set default pg_current_xact_id(),
  alter created_at set default clock_timestamp();
comment on view outbox_appending is
  'Internal: a row with topic, type and data that is inserted here is appended to the outbox. For trigger functions that run at commit, and whose data is one line and short; else see outbox_append().';
comment on column outbox_appending.id is 'As in outbox; leave it to its default.';
comment on column outbox_appending.topic is 'As in outbox.';
comment on column outbox_appending.type is 'As in outbox.';
comment on column outbox_appending.data is 'As in outbox.';
comment on column outbox_appending.txid is 'As in outbox; leave it to its default.';
comment on column outbox_appending.created_at is 'As in outbox; leave it to its default.';

create function outbox_append(topic text, type text, data json) returns bigint
language plpgsql volatile security definer set search_path from current as $$
#variable_conflict use_variable
declare
  id bigint;
  body text := data::text;
begin
  if octet_length(body) > outbox_max_event_bytes() then
    data := format('{"oversize":true,"bytes":%s}', octet_length(body))::json;
  elsif body ~ '[\r\n]' then
    -- Outside strings JSON may hold line breaks, an SSE data line may not; inside strings they are escaped already.
    data := translate(body, E'\r\n', '  ')::json;
  end if;
  insert into outbox_appending as o (topic, type, data) values (topic, type, data) returning o.id into id;
  return id;
end
$$;
comment on function outbox_append(text, text, json) is
  'Internal: appends an event of any size and returns its id. For trigger functions that run at commit; from then until the transaction ends it holds back every reader''s horizon. People use outbox_publish().';

-- Steps 1 and 2. `in_flight` comes from the same look at the lock table as the horizon: a writer that ends between two looks
-- would hide its row from the read and itself from the question.
create function outbox_bound(out horizon bigint, out in_flight boolean)
language plpgsql volatile set search_path from current as $$
declare
  l bigint;
  m bigint;
begin
  if pg_is_in_recovery() then
    raise exception 'a standby has no horizon: its writers are not in its lock table'
      using errcode = 'object_not_in_prerequisite_state', hint = 'Read the outbox on the primary.';
  end if;
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the outbox can be read in order only under read committed, not under %', current_setting('transaction_isolation')
      using errcode = 'active_sql_transaction', hint = 'Each of its steps needs a snapshot of its own.';
  end if;
  l := coalesce(pg_sequence_last_value('outbox_id_seq'), -1);
  -- Since 17 whoever may not read a sequence is told null, and would wait for ever at an outbox that never moves.
  if l < 0 and not has_sequence_privilege('outbox_id_seq', 'select') then
    raise exception 'permission denied for sequence outbox_id_seq' using errcode = 'insufficient_privilege';
  end if;
  select min(((x.classid::bigint & 65535) << 32) | x.objid::bigint) into m
    from pg_locks x
   where x.locktype = 'advisory' and x.objsubid = 1 and x.classid::bigint >> 16 = 21335
     and x.database = (select d.oid from pg_database d where d.datname = current_database());
  horizon := least(l, m);
  -- A writer that found nobody asleep may have taken an id after l and ended before the look at the locks.
  in_flight := m is not null or coalesce(pg_sequence_last_value('outbox_id_seq'), -1) <> l;
end
$$;
comment on function outbox_bound() is 'Internal: the horizon, and whether a writer was in flight that it may hide.';

create function outbox_horizon() returns bigint
language plpgsql volatile set search_path from current as $$
begin
  return (select b.horizon from outbox_bound() b);
end
$$;
comment on function outbox_horizon() is
  'The id up to which nothing can still appear. To read rows up to it, call it in an EARLIER statement than the read: in one statement both share a snapshot and rows are lost. outbox_read() does it right.';

-- The smallest cursor from which a replay is still exact.
create function outbox_oldest() returns bigint
language plpgsql volatile set search_path from current as $$
begin
  -- Not a function in SQL: that would be planned anew at every call, which was a third of what an empty read costs.
  return (select greatest(m.first_id, m.dropped_through) from outbox_meta m);
end
$$;
comment on function outbox_oldest() is 'The oldest cursor from which every later event can still be read.';

-- The relay's read: rows up to the horizon, then one last row without id that tells what the read saw. In that row `horizon`
-- is the bound, `in_flight` whether a writer was in flight (its ring may have come too early: read again soon), and `oldest`,
-- `first_id` and `epoch` are read after the rows, so that a partition dropped meanwhile shows as oldest > after.
create function outbox_read_batch(after bigint, max integer)
returns table (id bigint, topic text, type text, data text, txid xid8, created_at timestamptz,
               horizon bigint, in_flight boolean, oldest bigint, first_id bigint, epoch uuid)
language plpgsql volatile set search_path from current as $$
#variable_conflict use_column
declare
  bound record;
begin
  select * into bound from outbox_bound();
  return query
    select o.id, o.topic::text, o.type::text, o.data::text, o.txid, o.created_at, null::bigint, null::boolean, null::bigint, null::bigint, null::uuid
      from outbox o
     where o.id > after and o.id <= bound.horizon
     order by o.id
     limit max;
  return query
    select null::bigint, null::text, null::text, null::text, null::xid8, null::timestamptz,
           bound.horizon, bound.in_flight, outbox_oldest(), m.first_id, m.epoch
      from outbox_meta m;
end
$$;
comment on function outbox_read_batch(bigint, integer) is
  'Internal: what outbox_read() returns, then one row without id that carries horizon, in_flight, oldest, first_id and epoch.';

create function outbox_read(after bigint, max integer default 100)
returns table (id bigint, topic text, type text, data text, txid xid8, created_at timestamptz)
language plpgsql volatile set search_path from current as $$
#variable_conflict use_column
declare
  oldest bigint;
begin
  return query select b.id, b.topic, b.type, b.data, b.txid, b.created_at from outbox_read_batch(after, max) b where b.id is not null;
  oldest := outbox_oldest();
  if after < oldest then
    raise exception 'the outbox no longer holds every event after %', after
      using errcode = 'no_data_found', hint = format('Take the state again, then read on from %s or later.', oldest);
  end if;
end
$$;
comment on function outbox_read(bigint, integer) is
  'The next events after a cursor, in order, none skipped: read on from the id of the last row you got. Needs read committed and the primary.';

-- A cursor is always the id of a row that was read (or the start of the epoch), never a bare horizon: after a crash the
-- sequence may give out again an id that only a rolled-back transaction had.
create function outbox_head() returns bigint
language plpgsql volatile set search_path from current as $$
declare
  h bigint := outbox_horizon();
  last_id bigint;
begin
  select o.id into last_id from outbox o where o.id <= h order by o.id desc limit 1;
  return greatest(last_id, outbox_oldest());
end
$$;
comment on function outbox_head() is 'The cursor of a reader that starts now: the id of the last row at or below the horizon.';

-- A page of events of some topics (null: of all) with after < id <= through, for a subscriber that lags. `through` must be the id
-- of a row that a relay has read: everything up to it is settled, so no horizon is needed and a replica will do. Ends with one row
-- without id: `reached` is the cursor up to which the page is complete, `oldest` is read after the rows (see outbox_read_batch).
create function outbox_replay(topics text[], after bigint, through bigint, max_events integer, max_bytes integer)
returns table (id bigint, topic text, type text, data text, created_at timestamptz, reached bigint, oldest bigint)
language plpgsql volatile set search_path from current
-- A page is short and its index is known: the row comparison below can only use (topic, id), whatever the statistics say.
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off
set plan_cache_mode = force_custom_plan set jit = off as $$
#variable_conflict use_column
declare
  page refcursor;
  events integer := 0;
  bytes bigint := 0;
  complete_to bigint := through;
begin
  if topics is null then
    open page for
      select o.id, o.topic, o.type, o.data::text, o.created_at
        from outbox o
       where o.id > after and o.id <= through
       order by o.id limit max_events;
  elsif cardinality(topics) <= 16 then
    -- Few topics: the rows as the index finds them. More are read than returned only where several topics have events, and large
    -- values stay where they are until they are returned. For one busy topic less than half of what the look-ups below take.
    open page for
      select o.id, o.topic, o.type, o.data::text, o.created_at
        from (select o.id, o.topic, o.type, o.data, o.created_at
                from unnest(topics) t(topic),
                     lateral (select o.id, o.topic, o.type, o.data, o.created_at
                                from outbox o
                               where (o.topic, o.id) > (t.topic, after) and (o.topic, o.id) <= (t.topic, through)
                               order by o.topic, o.id limit max_events) o
               order by o.id limit max_events) o
       order by o.id;
  elsif cardinality(topics) > 100 and 2 * max_events <= (
          select count(*)
            from (select
                    from unnest(topics) t(topic),
                         lateral (select
                                    from outbox o
                                   where (o.topic, o.id) > (t.topic, after) and (o.topic, o.id) <= (t.topic, through)
                                   limit max_events) one
                   limit 2 * max_events) ahead) then
    -- Many topics with many events to come: below, each page would look at all of them. Here it is a slice of the events of all
    -- topics, about as long as one look-up per topic takes (npm run bench:replay-topics). Concatenated, so that no index but that of the ids
    -- fits; the topics are a constant to the plan, and so looked up by hash.
    complete_to := least(through, after + 100 * cardinality(topics));
    open page for
      select o.id, o.topic, o.type, o.data::text, o.created_at
        from outbox o
       where o.id > after and o.id <= complete_to and o.topic || '' = any (topics)
       order by o.id limit max_events;
  else
    -- Ids first, from the index alone; rows one by one, so that a page of few large events reads no more than it returns.
    open page for
      select o.id, o.topic, o.type, o.data::text, o.created_at
        from (select ids.id
                from unnest(topics) t(topic),
                     lateral (select o.id
                                from outbox o
                               where (o.topic, o.id) > (t.topic, after) and (o.topic, o.id) <= (t.topic, through)
                               order by o.topic, o.id limit max_events) ids
               order by ids.id limit max_events) page
             join outbox o on o.id = page.id
       order by page.id;
  end if;
  loop
    fetch page into id, topic, type, data, created_at;
    exit when not found;
    events := events + 1;
    bytes := bytes + octet_length(data);
    return next;
    reached := id;
    exit when bytes >= max_bytes;
  end loop;
  close page;
  if events < max_events and bytes < max_bytes then
    reached := complete_to;
  end if;
  id := null; topic := null; type := null; data := null; created_at := null;
  oldest := outbox_oldest();
  return next;
end
$$;
comment on function outbox_replay(text[], bigint, bigint, integer, integer) is
  'Internal: a page of past events for one subscriber, then one row without id that says up to which cursor the page is complete.';

create view outbox_inflight as
select x.pid, a.usename, a.application_name, a.client_addr, a.state, a.xact_start as since,
       ((x.classid::bigint & 65535) << 32) | x.objid::bigint as horizon
  from pg_locks x left join pg_stat_activity a on a.pid = x.pid
 where x.locktype = 'advisory' and x.objsubid = 1 and x.classid::bigint >> 16 = 21335
   and x.database = (select d.oid from pg_database d where d.datname = current_database());
comment on view outbox_inflight is 'Transactions that may still commit events. While one is here, no reader goes past its horizon.';
comment on column outbox_inflight.pid is 'Backend; pg_cancel_backend(pid) or pg_terminate_backend(pid) lets go. Null: a prepared transaction.';
comment on column outbox_inflight.usename is 'Role of the writer.';
comment on column outbox_inflight.application_name is 'application_name of the writer.';
comment on column outbox_inflight.client_addr is 'Address of the writer.';
comment on column outbox_inflight.state is 'What it does now; idle in transaction is the one to worry about.';
comment on column outbox_inflight.since is 'When its transaction began.';
comment on column outbox_inflight.horizon is 'Readers get nothing above this id until it ends.';

revoke all on function outbox_max_event_bytes(), outbox_mark_lower(), outbox_next_id(), outbox_append(text, text, json), outbox_bound(), outbox_horizon(), outbox_oldest(),
  outbox_read_batch(bigint, integer), outbox_read(bigint, integer), outbox_head(),
  outbox_replay(text[], bigint, bigint, integer, integer) from public;
revoke all on outbox_inflight, outbox_appending from public;
