-- Credentials that are worth nothing any more although they have not expired: by who they speak for (sub), or by their id (jti).
--
-- The table is what counts whenever somebody connects: it is asked in the same statement as what they may see, so a revocation is
-- in force on every instance from its commit on, for instances that start later as well, and when its event has long been dropped.
-- The event is what ends streams that are open: it stands on a topic that the stream hears and nobody gets, and takes effect at
-- its id like any other change of access. It is appended at commit, so a revocation in a long transaction holds back nobody.
--
-- A topic is the one key of both: user:{id} and wallet:{address} for a sub, token:{sha256 of the jti in hex} for a jti, which may
-- be any text, and access:everybody for all credentials at once.

create table outbox_revocations (
  topic text not null,
  subject text,
  token_id text,
  issued_before timestamptz not null,
  until timestamptz not null,
  created_at timestamptz not null,
  event_id bigint,
  constraint outbox_revocations_pkey primary key (topic),
  constraint outbox_revocations_one_name check (num_nonnulls(subject, token_id) = 1),
  constraint outbox_revocations_issued_before_sane check (issued_before > '-infinity'),
  constraint outbox_revocations_until_sane check (until > '-infinity')
);
create index outbox_revocations_until on outbox_revocations (until);
comment on table outbox_revocations is
  'Credentials that are refused before they expire. Rows come from outbox_revoke() and go an hour after `until`; delete one to take a revocation back.';
comment on column outbox_revocations.topic is 'Whose credentials: user:{id}, wallet:{address}, token:{sha256 of the jti} or access:everybody. Open streams hear of it there.';
comment on column outbox_revocations.subject is 'The sub, a user id or a wallet in normal form, or * for everybody; null for a revocation by jti.';
comment on column outbox_revocations.token_id is 'The jti; null for a revocation by sub.';
comment on column outbox_revocations.issued_before is 'Credentials with an iat at or before it, or without one, are refused; infinity: whatever their iat.';
comment on column outbox_revocations.until is 'When the last credential concerned expires; infinity if that was not said.';
comment on column outbox_revocations.created_at is 'When it was revoked, last.';
comment on column outbox_revocations.event_id is 'The event by which open streams end; null only inside the revoking transaction.';

create function outbox_token_topic(jti text) returns text language sql immutable parallel safe strict
return 'token:' || encode(sha256(convert_to(jti, 'UTF8')), 'hex');
comment on function outbox_token_topic(text) is 'Internal: where streams hear that the credential with this jti was revoked.';

create function outbox_subject_names(sub text) returns setof text
language sql stable set search_path from current as $$
  select case when sub ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then lower(sub) else wallet_normal(sub) end
$$;
comment on function outbox_subject_names(text) is
  'Every sub by which credentials speak for the same person as this one. Here only itself; CREATE OR REPLACE it to add a user''s wallet and a wallet''s user.';

create function outbox_revoke(sub text default null, jti text default null, issued_before timestamptz default null,
                              until timestamptz default 'infinity') returns setof text
language plpgsql volatile security definer set search_path from current as $$
#variable_conflict use_variable
begin
  if num_nonnulls(sub, jti) <> 1 then
    raise exception 'a revocation names either a sub or a jti' using errcode = 'invalid_parameter_value';
  elsif sub !~ '^([A-Za-z0-9_.-]{1,128}|[*])$' then
    raise exception 'not a sub: %', quote_literal(left(sub, 200))
      using errcode = 'invalid_parameter_value', hint = 'A user id, a wallet address, or * for everybody.';
  elsif jti = '' or length(jti) > 1024 then
    raise exception 'a jti has 1 to 1024 characters' using errcode = 'invalid_parameter_value';
  elsif jti is not null and issued_before is not null then
    raise exception 'a jti is revoked whenever it was issued' using errcode = 'invalid_parameter_value', hint = 'Leave issued_before out.';
  end if;
  -- In one order everywhere, so that two revocations that share names do not wait for each other.
  return query
    with names as (
      select case when name = '*' then 'access:everybody' when name ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then 'user:' || name
                  else 'wallet:' || name end as topic, name, null::text as token_id,
             coalesce(issued_before, clock_timestamp()) as issued_before
        from outbox_subject_names(sub) name where sub is not null
      union
      select outbox_token_topic(jti), null, jti, 'infinity' where jti is not null
    ), kept as (
      -- Revoked twice, the wider counts; what adds nothing causes no event.
      insert into outbox_revocations as r (topic, subject, token_id, issued_before, until, created_at)
      select n.topic, n.name, n.token_id, n.issued_before, coalesce(until, 'infinity'), clock_timestamp() from names n order by n.topic
      on conflict (topic) do update
         set issued_before = greatest(r.issued_before, excluded.issued_before), until = greatest(r.until, excluded.until),
             created_at = excluded.created_at
       where excluded.issued_before > r.issued_before or excluded.until > r.until
    )
    select n.topic from names n order by n.topic;
end
$$;
comment on function outbox_revoke(text, text, timestamptz, timestamptz) is
  'Refuses credentials from commit on and ends their open streams: of a sub those with an iat at or before `issued_before` (now), or of a jti. `until` says when the last of them expires. Returns the topics by which streams hear of it.';

create function outbox_revocation_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
declare
  id bigint;
begin
  id := outbox_append(new.topic, 'access:credentials_revoked',
    json_build_object('issuedBefore', extract(epoch from nullif(new.issued_before, 'infinity'))));
  update outbox_revocations r set event_id = id where r.topic = new.topic;
  return null;
end
$$;
comment on function outbox_revocation_event() is 'Trigger: appends access:credentials_revoked, which ends streams and is given to nobody.';

create constraint trigger revocation_event after insert or update of issued_before, until on outbox_revocations
  deferrable initially deferred for each row execute function outbox_revocation_event();
comment on trigger revocation_event on outbox_revocations is 'Ends the open streams of the credentials, at commit.';

-- An hour, because instances and issuers tell the time by clocks of their own.
create function outbox_forget_revocations() returns bigint
language plpgsql volatile security definer set search_path from current as $$
begin
  delete from outbox_revocations r where r.until < now() - interval '1 hour';
  return (select count(*) from outbox_revocations);
end
$$;
comment on function outbox_forget_revocations() is
  'Deletes revocations of credentials that have expired by now; returns how many are left.';

-- Through the table of those who publish, since statements can be followed by many more before the commit.
create function outbox_end_all_sessions() returns void
language plpgsql volatile security definer set search_path from current as $$
begin
  insert into outbox_publishing (topic, type, data) values ('access:everybody', 'access:revoked', '{"topic":"user:*"}');
end
$$;
comment on function outbox_end_all_sessions() is
  'At commit, ends every open stream: clients come back, and what they may see is looked up anew. For changes of access that rows cannot tell, such as TRUNCATE.';

revoke all on function outbox_token_topic(text), outbox_subject_names(text), outbox_revoke(text, text, timestamptz, timestamptz),
  outbox_revocation_event(), outbox_forget_revocations(), outbox_end_all_sessions() from public;
revoke all on outbox_revocations from public;
