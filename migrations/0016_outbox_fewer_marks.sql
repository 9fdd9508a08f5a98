-- An append that is cheaper still, and a line per transaction in outbox_inflight.
--
-- A transaction that has its lock need not take another for its next event, so each used to write down the key of its lock: the mark, a
-- setting. To set one, and for the transaction's end to take it back, cost as much as both locks of the protocol; and what set it was the
-- larger part of an expression that is made ready for every single event. Nearly all transactions append once and never look at it.
--
-- So now an append leaves a mark only once in 16 times, by a hash of last_value, and otherwise takes its lock as if it were the transaction's first. Nothing of
-- 0002 changes: each append holds a lock with K below its id before it takes that, and the lowest of a transaction's locks is what
-- readers go by. A transaction of many events finds a mark after 16 of them on average; the lock table has room for
-- max_locks_per_transaction in each session, 64 by default. A hash, since of two writers who take turns one would see only odd
-- ids; and not random(), which anybody can pin with setseed() until the lock table is full.

-- What is rare, as the page of 0002 has it in its steps. PL/pgSQL, so that the planner does not put it into the statement, and no settings: each name
-- is given with its schema ("@."), see 0015, and the sequence comes with the call.
do $migration$
begin
  execute replace($function$
create function @.outbox_next_id_marking(ids regclass) returns bigint
language plpgsql volatile as $outbox_next_id_marking$
declare
  k pg_catalog.int8;
begin
  if pg_catalog.current_setting('synchronous_commit') operator(pg_catalog.=) 'off' then
    perform pg_catalog.set_config('synchronous_commit', 'local', true);
  end if;
  if pg_catalog.current_setting('settlewire.in_flight', true) operator(pg_catalog.<>) '' and @.outbox_is_marked(ids) then
    return pg_catalog.nextval(ids);
  end if;
  k := coalesce(pg_catalog.pg_sequence_last_value(ids), 0);
  if pg_catalog.pg_try_advisory_xact_lock_shared((21335::bigint operator(pg_catalog.<<) 48) operator(pg_catalog.|) k) then
    perform pg_catalog.set_config('settlewire.in_flight', k::pg_catalog.text, true);
  else
    perform @.outbox_mark_lower();
  end if;
  if not (case when pg_catalog.pg_try_advisory_lock(21336::bigint operator(pg_catalog.<<) 48)
               then pg_catalog.pg_advisory_unlock(21336::bigint operator(pg_catalog.<<) 48) else false end) then
    perform pg_catalog.pg_notify('outbox', '');
  end if;
  return pg_catalog.nextval(ids);
end
$outbox_next_id_marking$
$function$, '@.', quote_ident(current_schema()) || '.');
end
$migration$;
comment on function outbox_next_id_marking(regclass) is
  'Internal: outbox_next_id() for whatever is rare: a transaction that has a mark or is to get one, that would commit asynchronously, that must ring, or whose key a stranger holds.';
revoke all on function outbox_next_id_marking(regclass) from public;
-- Those whose functions append, should somebody else apply this file than applied the ones before.
do $$
declare
  appender regrole;
begin
  for appender in
    select distinct p.proowner::regrole from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = current_schema() and p.prosecdef
  loop
    execute format('grant execute on function outbox_next_id_marking(regclass) to %s', appender);
  end loop;
end
$$;

-- The steps are those of 0002, in their order: K and the lock, the doorbell, the id. The hash is asked with the settings, before any of them: -1879048192 is
-- a sixteenth above the lowest that it can be.
create or replace function outbox_next_id() returns bigint language sql volatile
return case
  when current_setting('synchronous_commit') = 'off' or current_setting('settlewire.in_flight', true) <> ''
      or hashint8(pg_sequence_last_value('outbox_id_seq')) < -1879048192
    then outbox_next_id_marking('outbox_id_seq')
  when pg_try_advisory_xact_lock_shared((21335::bigint << 48) | pg_sequence_last_value('outbox_id_seq'))
    then case when pg_try_advisory_lock(21336::bigint << 48)
              then case when pg_advisory_unlock(21336::bigint << 48) then nextval('outbox_id_seq') end
              else outbox_next_id_marking('outbox_id_seq') end
  else outbox_next_id_marking('outbox_id_seq')
end;

-- One line for a transaction, however many locks it has.
create or replace view outbox_inflight as
select x.pid, a.usename, a.application_name, a.client_addr, a.state, a.xact_start as since, x.horizon
  from (select l.pid, min(((l.classid::bigint & 65535) << 32) | l.objid::bigint) as horizon
          from pg_locks l
         where l.locktype = 'advisory' and l.objsubid = 1 and l.classid::bigint >> 16 = 21335
           and l.database = (select d.oid from pg_database d where d.datname = current_database())
         group by l.virtualtransaction, l.pid) x
  left join pg_stat_activity a on a.pid = x.pid;
