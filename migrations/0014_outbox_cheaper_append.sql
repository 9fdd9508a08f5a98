-- A cheaper append for the transaction that appends once, as nearly every one does.
--
-- The expression that the planner puts into the INSERT is set up for each statement as a whole, whatever part of it is worked out then.
-- What only the second event of a transaction needs is a function of its own now; nobody else calls it.
--
-- Topic and type of every row were compared with a regular expression each, although those of our own triggers are a word and a uuid.
-- Now outbox_append() compares them: through it goes everything whose topic or type somebody else has made.

-- The lock is the same one again: that costs no shared memory access. PL/pgSQL, because the planner would put a function in SQL into the
-- statement too; no settings, because setting and resetting them costs more than all the rest. So it finds nothing by a search_path: each
-- name is given with its schema, and the sequence comes with the call.
create function outbox_is_marked(ids regclass) returns boolean
language plpgsql volatile as $$
declare
  mark pg_catalog.text := pg_catalog.current_setting('settlewire.in_flight', true);
begin
  if mark operator(pg_catalog.~) '^[0-9]{1,15}$' then
    if mark::bigint operator(pg_catalog.<=) coalesce(pg_catalog.pg_sequence_last_value(ids), 0) then
      return pg_catalog.pg_try_advisory_xact_lock_shared((21335::bigint operator(pg_catalog.<<) 48) operator(pg_catalog.|) mark::bigint);
    end if;
  end if;
  return false;
end
$$;
comment on function outbox_is_marked(regclass) is
  'Internal: whether the transaction is marked as in flight and holds its lock; false for a mark that it cannot have made, such as one above the sequence.';
revoke all on function outbox_is_marked(regclass) from public;
-- Those whose functions append, should somebody else apply this file than applied the ones before.
do $$
declare
  appender regrole;
begin
  for appender in
    select distinct p.proowner::regrole from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = current_schema() and p.prosecdef
  loop
    execute format('grant execute on function outbox_is_marked(regclass) to %s', appender);
  end loop;
end
$$;

-- The steps are those of 0002, in their order.
create or replace function outbox_next_id() returns bigint language sql volatile
return case
  when case when current_setting('synchronous_commit') = 'off' then set_config('synchronous_commit', 'local', true) is null else false end
    then null
  when case when current_setting('settlewire.in_flight', true) <> '' then outbox_is_marked('outbox_id_seq') else false end
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

create or replace function outbox_append(topic text, type text, data json) returns bigint
language plpgsql volatile security definer set search_path from current as $$
#variable_conflict use_variable
declare
  id bigint;
  body text := data::text;
begin
  if not (topic ~ '^[a-z]+:[A-Za-z0-9_.-]+$' and length(topic) - strpos(topic, ':') <= 128) then
    raise exception 'not a topic: %', quote_literal(left(topic, 200))
      using errcode = 'check_violation', hint = 'A topic is kind:key, such as escrow:7f1d…; the key has letters, digits, "_", "." and "-", 128 at most.';
  end if;
  if not type ~ '^[a-z]+:[a-z_]+$' then
    raise exception 'not an event type: %', quote_literal(left(type, 200))
      using errcode = 'check_violation', hint = 'An event type is two lower-case words with a colon between them, such as escrow:status_changed.';
  end if;
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

alter domain outbox_topic drop constraint outbox_topic_grammar;
alter domain outbox_type drop constraint outbox_type_grammar;
comment on domain outbox_topic is 'kind:key; the key has letters, digits, "_", "." and "-", 128 at most. outbox_append() sees to it.';
comment on domain outbox_type is 'Two lower-case words with a colon between them. outbox_append() sees to it.';
comment on view outbox_appending is
  'Internal: a row with topic, type and data that is inserted here is appended to the outbox, and nothing of it is checked. For trigger functions that run at commit, whose topic is a uuid''s and whose data is one line and short; else see outbox_append().';
