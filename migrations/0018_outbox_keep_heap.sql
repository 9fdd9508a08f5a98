-- A session that appends keeps its memory from one transaction to the next.
--
-- Where Postgres runs on glibc, a session may give memory back to the system at each commit and ask for it again in its next transaction: three calls
-- of brk() and some two page faults a commit, a tenth of what a busy server does for one. glibc gives back what is free at the end of the
-- heap beyond 128 KiB, until the session has once freed a larger block: then it takes that it will need as much again, and its limit becomes
-- twice that block (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD). So a session has one block of 256 KiB made and freed while its first append is planned, since
-- the planner works out what is constant: 0.3 ms, once. Without glibc nothing follows from it, nor where the server's environment gives MALLOC_TRIM_THRESHOLD_.
--
-- PL/pgSQL, which plans its expression once in a session: PostgreSQL 15 would plan a function in SQL anew with each plan of an append, 0.2 ms
-- each time. It has no settings, and names all with its schema, see 0015.
create function outbox_keep_heap() returns boolean language plpgsql immutable parallel safe as $$
begin
  return pg_catalog.octet_length(pg_catalog.repeat(pg_catalog.repeat(' ', 512), 512)) operator(pg_catalog.>) 0;
end
$$;
comment on function outbox_keep_heap() is
  'Internal: true. Worked out when a session''s first append is planned; the session keeps up to 512 KiB of free memory from then on, where it would keep 128 (glibc). To undo it, have it return true and do nothing else.';
revoke all on function outbox_keep_heap() from public;
-- Those whose functions append, should somebody else apply this file than applied the ones before.
do $$
declare
  appender regrole;
begin
  for appender in
    select distinct p.proowner::regrole from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = current_schema() and p.prosecdef
  loop
    execute format('grant execute on function outbox_keep_heap() to %s', appender);
  end loop;
end
$$;

-- As in 0016; the planner asks the first question, and leaves it out, whatever the answer is.
create or replace function outbox_next_id() returns bigint language sql volatile
return case
  when outbox_keep_heap() and false then null
  when current_setting('synchronous_commit') = 'off' or current_setting('settlewire.in_flight', true) <> ''
      or hashint8(pg_sequence_last_value('outbox_id_seq')) < -1879048192
    then outbox_next_id_marking('outbox_id_seq')
  when pg_try_advisory_xact_lock_shared((21335::bigint << 48) | pg_sequence_last_value('outbox_id_seq'))
    then case when pg_try_advisory_lock(21336::bigint << 48)
              then case when pg_advisory_unlock(21336::bigint << 48) then nextval('outbox_id_seq') end
              else outbox_next_id_marking('outbox_id_seq') end
  else outbox_next_id_marking('outbox_id_seq')
end;
