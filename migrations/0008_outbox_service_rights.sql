-- The service's own database role: it reads, and does the little else that it must by functions that act as their owner.
--
-- outbox_service_rights is the list, outbox_grant_service() grants it, outbox_missing_rights() is what the service asks at its
-- start. A migration that brings something new for the service adds its rows; an adopter adds their own, for a function of theirs say.

create table outbox_service_rights (
  kind text not null,
  object text not null,
  columns text[] not null default '{}',
  constraint outbox_service_rights_pkey primary key (kind, object),
  constraint outbox_service_rights_kind check (kind in ('table', 'sequence', 'function')),
  constraint outbox_service_rights_columns_of_table check (kind = 'table' or columns = '{}')
);
comment on table outbox_service_rights is
  'What the service''s role needs: SELECT on tables and sequences, EXECUTE on functions. outbox_grant_service() grants it.';
comment on column outbox_service_rights.kind is 'table (or view), sequence or function.';
comment on column outbox_service_rights.object is 'Its name, as regclass or regprocedure take it.';
comment on column outbox_service_rights.columns is 'The columns of a table that are needed; empty: all.';

insert into outbox_service_rights (kind, object) values
  ('table', 'outbox'),
  ('table', 'outbox_default'),
  ('table', 'outbox_meta'),
  ('table', 'outbox_inflight'),
  ('table', 'outbox_revocations'),
  ('table', 'outbox_migration'),
  ('table', 'outbox_migration_checksum'),
  ('table', 'outbox_service_rights'),
  ('sequence', 'outbox_id_seq'),
  ('function', 'outbox_missing_rights()'),
  ('function', 'outbox_bound()'),
  ('function', 'outbox_horizon()'),
  ('function', 'outbox_head()'),
  ('function', 'outbox_oldest()'),
  ('function', 'outbox_read_batch(bigint,integer)'),
  ('function', 'outbox_replay(text[],bigint,bigint,integer,integer)'),
  ('function', 'outbox_follow_epoch()'),
  ('function', 'outbox_is_elsewhere()'),
  ('function', 'outbox_timeline()'),
  ('function', 'outbox_replace_epoch(uuid)'),
  ('function', 'outbox_add_partitions(integer)'),
  ('function', 'outbox_drop_partitions(timestamptz)'),
  ('function', 'outbox_revoke(text,text,timestamptz,timestamptz)'),
  ('function', 'outbox_forget_revocations()');

create function outbox_missing_rights() returns setof text
language sql stable set search_path from current as $$
  select case r.kind when 'function' then 'EXECUTE' else 'SELECT' end
         || case when r.columns <> '{}' then ' (' || array_to_string(r.columns, ', ') || ')' else '' end
         || ' on ' || r.kind || ' ' || r.object
    from outbox_service_rights r
   where not coalesce(case r.kind
           when 'function' then has_function_privilege(to_regprocedure(r.object), 'execute')
           when 'sequence' then has_sequence_privilege(to_regclass(r.object), 'select')
           else has_table_privilege(to_regclass(r.object), 'select')
             or r.columns <> '{}' and not exists (
                  select from unnest(r.columns) c(name)
                   where not coalesce(has_column_privilege(to_regclass(r.object),
                           (select a.attnum from pg_attribute a where a.attrelid = to_regclass(r.object) and a.attname = c.name), 'select'), false))
         end, false)
   order by r.kind desc, r.object
$$;
comment on function outbox_missing_rights() is
  'What of outbox_service_rights the current role has not, as "EXECUTE on function …"; no rows: it can serve.';

create function outbox_grant_service(service name) returns void
language plpgsql volatile set search_path from current as $$
declare
  need record;
  owner oid := (select c.relowner from pg_class c where c.oid = 'outbox'::regclass);
begin
  if pg_has_role(service, owner, 'member') then
    raise exception 'role "%" can do all that the owner of the outbox can', service
      using errcode = 'invalid_grant_operation', hint = 'Give the service a role of its own: no superuser, no member of the owner''s role.';
  end if;
  -- A function of theirs that fits a call better than the system's own would run with the owner's rights.
  if exists (select from pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
              where n.nspname = current_schema() and a.grantee = 0 and a.privilege_type = 'CREATE') then
    raise exception 'everybody may create objects in schema "%"', current_schema()
      using errcode = 'invalid_grant_operation', hint = format('revoke create on schema %I from public', current_schema());
  end if;
  if not has_database_privilege(service, current_database(), 'connect') then
    execute format('grant connect on database %I to %I', current_database(), service);
  end if;
  if not has_schema_privilege(service, current_schema(), 'usage') then
    execute format('grant usage on schema %I to %I', current_schema(), service);
  end if;
  for need in
    select case r.kind when 'function' then 'execute' else 'select' end
           || coalesce((select '(' || string_agg(quote_ident(c.name), ', ') || ')' from unnest(r.columns) c(name)), '') as privilege,
           r.kind,
           case r.kind when 'function' then r.object::regprocedure::text else r.object::regclass::text end as object
      from outbox_service_rights r
  loop
    execute format('grant %s on %s %s to %I', need.privilege, need.kind, need.object, service);
  end loop;
end
$$;
comment on function outbox_grant_service(name) is
  'Gives a role what the service needs and nothing else, see outbox_service_rights. Call it as the owner, again after every migration.';

revoke all on outbox_service_rights from public;
revoke all on function outbox_missing_rights(), outbox_grant_service(name) from public;
