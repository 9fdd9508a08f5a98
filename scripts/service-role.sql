-- Makes the role that the service connects as, or brings its rights up to date: it can read what it serves and keep the outbox,
-- and nothing else. Run it as the owner of the outbox, with the right to create roles, after every `settlewire migrate`:
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -c "set settlewire.service_role = 'settlewire_service'" -f scripts/service-role.sql
--   psql "$OWNER_URL" -c '\password settlewire_service'
--
-- Without that right: first let a DBA `create role settlewire_service login`. A role that exists is kept as it is, with its password.
-- The password is asked for, hashed by psql and never in a log.
do $$
declare
  service name := nullif(current_setting('settlewire.service_role', true), '');
begin
  if service is null then
    raise exception 'which role? set settlewire.service_role first';
  end if;
  if not exists (select from pg_roles r where r.rolname = service) then
    execute format('create role %I login', service);
  end if;
  perform outbox_grant_service(service);
end
$$;
