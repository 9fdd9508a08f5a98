-- For a database to which others connect than your own programs: takes from everybody the advisory locks with one bigint key, among
-- which are those that tell readers who is in flight and writers who sleeps (docs/security.md), and leaves them to the owner of the
-- outbox and the service. As a superuser, once, after service-role.sql (for a schema of its own with "set search_path = wire; set …"):
--
--   psql "$SUPERUSER_URL" -v ON_ERROR_STOP=1 -c "set settlewire.service_role = 'settlewire_service'" -f scripts/advisory-locks.sql
--
-- A program of yours that uses such locks needs them back: grant execute on function pg_advisory_lock(bigint) to its_role, and so on.
-- Locks with two integer keys stay everybody's: they never meet ours.
do $$
declare
  service name := nullif(current_setting('settlewire.service_role', true), '');
  owner name := (select c.relowner::regrole::text from pg_class c where c.oid = 'outbox'::regclass);
  routine regprocedure;
begin
  if service is null then
    raise exception 'which role? set settlewire.service_role first';
  end if;
  for routine in
    select p.oid from pg_proc p
     where p.pronamespace = 'pg_catalog'::regnamespace
       and p.proname ~ '^pg_(try_)?advisory_(xact_)?lock(_shared)?$' and p.proargtypes = '20'
  loop
    execute format('revoke execute on function %s from public', routine);
    execute format('grant execute on function %s to %s, %I', routine, owner, service);
  end loop;
end
$$;
