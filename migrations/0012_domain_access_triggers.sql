-- Who gains or loses a topic, as events on their own topics: access:granted and access:revoked with data {"topic": …}.
-- A live connection and a replay follow them to the row: nothing after a revocation is delivered on that topic.
--
-- Grounds. A person may see an escrow for several reasons at once: as its creator, and as a party that has not rejected, in
-- up to three roles. Only the first ground gained and the last one lost are events, so each change must know about the
-- others, including those that another transaction is making at this moment.
--
-- The race. A person has grounds A and B. T1 removes A, T2 removes B, both still open: each sees the other's ground in place
-- and revokes nothing. Both commit, and the person watches on. A row lock on the escrow cures this under read committed
-- only: under repeatable read T2, having waited, still looks at its old snapshot, in which A stands, and locking a row that
-- was merely locked before, not written, raises nothing. (SELECT FOR SHARE does not even make them wait.)
--
-- The cure is a ledger, escrow_access: one row for each escrow and person with what was last announced. Every change of a
-- ground WRITES that row first, and only then looks at the grounds:
--   read committed: T2 waits for T1's row, and its next statement, with a new snapshot, sees what T1 did.
--   repeatable read, serializable: T2's write of a row written since its snapshot fails with 40001 could not serialize. So
--     whoever gets past the write has a snapshot in which all earlier changes of this pair's grounds are in.
-- Changes of one pair's grounds are thereby decided one after another. The event is the difference between what was
-- announced and what is so now; a transaction that takes a ground and gives another causes none.
--
-- A pair that the ledger does not know (loaded with triggers disabled) is taken to have had access if a ground is being
-- lost, and not to have had it if one is gained: it may be told twice, but is never not told of a loss. Rows are kept when
-- access or the escrow goes, because an old snapshot must meet the written row. TRUNCATE fires
-- no row trigger: see access_truncated() below.
--
-- Deadlocks. The triggers are deferred, so ledger rows are locked at commit only, when a transaction wants no other locks
-- any more: whoever waits for one waits for a commit already under way. Two transactions that change several of the same
-- pairs in opposite order can meet; Postgres ends one with 40P01 and its changes are undone, none is lost. Backends that
-- change many pairs at once should do so in order of escrow, then user. No domain row is ever locked on this account.
--
-- Streams. Both grounds, payer and recipient, sit in the stream's own row. Whoever updates it has its lock, and OLD is the
-- newest version of it (or the update fails with 40001): comparing OLD with NEW is exact without more.
--
-- Access triggers sort before event triggers by name, and event_stream_updated tells of access first: who gains a topic by a change also gets the event of that change, who
-- loses it does not.

create table escrow_access (
  escrow_id uuid not null,
  user_id uuid not null,
  has_access boolean not null,
  constraint escrow_access_pkey primary key (escrow_id, user_id)
);
comment on table escrow_access is
  'Ledger of the access triggers: what each person was last told about each escrow. Ask escrows and escrow_parties who may see what, not this. No foreign keys: rows outlive the escrow.';
comment on column escrow_access.escrow_id is 'The escrow.';
comment on column escrow_access.user_id is 'The person.';
comment on column escrow_access.has_access is 'True after access:granted, false after access:revoked.';

-- Those who have access already need not be told.
insert into escrow_access (escrow_id, user_id, has_access)
select id, creator_id, true from escrows
union
select escrow_id, user_id, true from escrow_parties where status <> 'rejected';

create function escrow_access_settle(escrow uuid, person uuid, lost boolean) returns void
language plpgsql volatile security definer set search_path from current as $$
declare
  had boolean;
  has boolean;
begin
  insert into escrow_access as a (escrow_id, user_id, has_access) values (escrow, person, lost)
  on conflict (escrow_id, user_id) do update set has_access = a.has_access
  returning a.has_access into had;
  -- A statement of its own: under read committed only its snapshot is sure to be later than the wait above.
  has := exists (select from escrows e where e.id = escrow and e.creator_id = person)
      or exists (select from escrow_parties p where p.escrow_id = escrow and p.user_id = person and p.status <> 'rejected');
  if has <> had then
    update escrow_access set has_access = has where escrow_id = escrow and user_id = person;
    perform outbox_append('user:' || person, case when has then 'access:granted' else 'access:revoked' end,
      json_build_object('topic', 'escrow:' || escrow));
  end if;
end
$$;
comment on function escrow_access_settle(uuid, uuid, boolean) is
  'Tells a person if a change of one of their grounds gave or took them the escrow; `lost` says whether the ground went or came.';

create function escrow_access_changed() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  if tg_op <> 'INSERT' then
    perform escrow_access_settle(old.id, old.creator_id, true);
  end if;
  if tg_op <> 'DELETE' then
    perform escrow_access_settle(new.id, new.creator_id, false);
  end if;
  return null;
end
$$;
comment on function escrow_access_changed() is 'Trigger: an escrow came or went, or its creator changed.';

create constraint trigger access_escrow_inserted after insert on escrows deferrable initially deferred
  for each row execute function escrow_access_changed();
create constraint trigger access_escrow_updated after update on escrows deferrable initially deferred
  for each row when (new.creator_id is distinct from old.creator_id or new.id is distinct from old.id)
  execute function escrow_access_changed();
create constraint trigger access_escrow_deleted after delete on escrows deferrable initially deferred
  for each row execute function escrow_access_changed();
comment on trigger access_escrow_inserted on escrows is 'access:granted for the creator.';
comment on trigger access_escrow_updated on escrows is 'access:granted and access:revoked when the creator changed.';
comment on trigger access_escrow_deleted on escrows is 'access:revoked for the creator; its parties go by cascade and have their own.';

create function party_access_changed() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  if tg_op <> 'INSERT' and old.status <> 'rejected' then
    perform escrow_access_settle(old.escrow_id, old.user_id, true);
  end if;
  if tg_op <> 'DELETE' and new.status <> 'rejected' then
    perform escrow_access_settle(new.escrow_id, new.user_id, false);
  end if;
  return null;
end
$$;
comment on function party_access_changed() is 'Trigger: a party was added, removed, rejected or accepted again, or its row was given to another person or escrow.';

create constraint trigger access_party_inserted after insert on escrow_parties deferrable initially deferred
  for each row when (new.status <> 'rejected') execute function party_access_changed();
create constraint trigger access_party_updated after update on escrow_parties deferrable initially deferred
  for each row when (
    (new.status = 'rejected') is distinct from (old.status = 'rejected')
    or new.user_id is distinct from old.user_id
    or new.escrow_id is distinct from old.escrow_id
  ) execute function party_access_changed();
create constraint trigger access_party_deleted after delete on escrow_parties deferrable initially deferred
  for each row when (old.status <> 'rejected') execute function party_access_changed();
comment on trigger access_party_inserted on escrow_parties is 'access:granted when this is the person''s first ground.';
comment on trigger access_party_updated on escrow_parties is 'access:granted or access:revoked when a ground came or the last one went.';
comment on trigger access_party_deleted on escrow_parties is 'access:revoked when this was the person''s last ground.';

-- Wallets are stored in their normal form, so they compare as they are. A wallet need not belong to a user.
create function stream_access_tell(old_stream uuid, old_wallets text[], new_stream uuid, new_wallets text[]) returns void
language plpgsql volatile security definer set search_path from current as $$
declare
  wallet text;
begin
  for wallet in select unnest(old_wallets) except select unnest(new_wallets) order by 1 loop
    perform outbox_append('wallet:' || wallet, 'access:revoked', json_build_object('topic', 'stream:' || old_stream));
  end loop;
  for wallet in select unnest(new_wallets) except select unnest(old_wallets) order by 1 loop
    perform outbox_append('wallet:' || wallet, 'access:granted', json_build_object('topic', 'stream:' || new_stream));
  end loop;
end
$$;
comment on function stream_access_tell(uuid, text[], uuid, text[]) is
  'Tells wallets that gained or lost a stream; one that is payer and recipient is told once. For updates, event_stream_updated calls it.';

create function stream_access_changed() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  if tg_op = 'DELETE' then
    perform stream_access_tell(old.id, array[old.payer, old.recipient], null, '{}');
  else
    perform stream_access_tell(null, '{}', new.id, array[new.payer, new.recipient]);
  end if;
  return null;
end
$$;
comment on function stream_access_changed() is 'Trigger: a stream came or went.';

create constraint trigger access_stream_inserted after insert on streams deferrable initially deferred
  for each row execute function stream_access_changed();
create constraint trigger access_stream_deleted after delete on streams deferrable initially deferred
  for each row execute function stream_access_changed();
comment on trigger access_stream_inserted on streams is 'access:granted for payer and recipient.';
comment on trigger access_stream_deleted on streams is 'access:revoked for payer and recipient.';

-- What somebody may see follows from their role and wallet, so when those change, when the account is closed, or when they
-- become a user, their sessions end: access:revoked of their OWN topic, user:{id}, on every topic by which a session of theirs
-- can be known. They come back with a new connection, and what they may see is worked out anew. Sessions of the wallet that
-- they link end as well.
--
-- A name (user id or wallet) that users does not know speaks for itself: its token's own role counts. So when a name is
-- known no longer, the tokens that it got until then are revoked, or a token of an administrator, demoted and then deleted
-- or parted from their wallet, would count again.
create function user_access_changed() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  perform outbox_append(t.topic, 'access:revoked', json_build_object('topic', 'user:' || coalesce(old.id, new.id)))
    from (select 1 as place, 'user:' || old.id as topic
          union select 1, 'user:' || new.id
          union select 2, 'wallet:' || old.wallet_address
          union select 2, 'wallet:' || new.wallet_address
          order by place, topic) t
   where t.topic is not null;
  if tg_op <> 'INSERT' then
    if not exists (select from users u where u.id = old.id) then
      perform outbox_revoke(old.id::text);
    end if;
    -- A wallet may be somebody else's by now, in the same transaction: its tokens must not speak for them. Its own name alone is
    -- revoked, since outbox_revoke() would take the tokens of whoever has it now along.
    if old.wallet_address is not null
       and not exists (select from users u where u.wallet_address = old.wallet_address and u.id in (old.id, new.id)) then
      insert into outbox_revocations as r (topic, subject, issued_before, until, created_at)
      values ('wallet:' || old.wallet_address, old.wallet_address, clock_timestamp(), 'infinity', clock_timestamp())
      on conflict (topic) do update
         set issued_before = greatest(r.issued_before, excluded.issued_before), until = excluded.until, created_at = excluded.created_at;
    end if;
  end if;
  return null;
end
$$;
comment on function user_access_changed() is
  'Trigger: ends a user''s sessions with access:revoked of their own topic, and revokes the tokens of names that are not theirs any more.';

create constraint trigger access_user_inserted after insert on users deferrable initially deferred
  for each row execute function user_access_changed();
create constraint trigger access_user_updated after update on users deferrable initially deferred
  for each row when (
    new.is_active is distinct from old.is_active
    or new.role is distinct from old.role
    or new.wallet_address is distinct from old.wallet_address
    or new.id is distinct from old.id
  ) execute function user_access_changed();
create constraint trigger access_user_deleted after delete on users deferrable initially deferred
  for each row execute function user_access_changed();
comment on trigger access_user_inserted on users is 'Ends sessions of tokens that spoke for this id or wallet before it was a user''s.';
comment on trigger access_user_updated on users is 'Ends the user''s sessions when is_active, role or wallet changed.';
comment on trigger access_user_deleted on users is 'Ends the user''s sessions, and revokes their tokens.';

create or replace function outbox_subject_names(sub text) returns setof text
language plpgsql stable set search_path from current as $$
begin
  if sub ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    return query select lower(sub) union select u.wallet_address from users u where u.id = sub::uuid and u.wallet_address is not null;
  else
    return query select wallet_normal(sub) union select u.id::text from users u where u.wallet_address = wallet_normal(sub);
  end if;
end
$$;
comment on function outbox_subject_names(text) is
  'Every sub by which credentials speak for the same person as this one: a user''s id and wallet.';

-- TRUNCATE tells no row trigger what went. So it ends every stream, and whoever comes back with an older cursor takes the state
-- again. Without their users, all names would speak for themselves (see above): every token is revoked.
create function access_truncated() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  update escrow_access a set has_access = g.has_access
    from (select l.escrow_id, l.user_id,
                 exists (select from escrows e where e.id = l.escrow_id and e.creator_id = l.user_id)
                 or exists (select from escrow_parties p where p.escrow_id = l.escrow_id and p.user_id = l.user_id and p.status <> 'rejected')
                 as has_access
            from escrow_access l) g
   where g.escrow_id = a.escrow_id and g.user_id = a.user_id and g.has_access <> a.has_access;
  perform outbox_end_all_sessions();
  if tg_relid = 'users'::regclass then
    perform outbox_revoke('*');
  end if;
  return null;
end
$$;
comment on function access_truncated() is 'Trigger: ends every session, and brings escrow_access up to date.';

create trigger access_truncated after truncate on users for each statement execute function access_truncated();
create trigger access_truncated after truncate on streams for each statement execute function access_truncated();
create trigger access_truncated after truncate on escrows for each statement execute function access_truncated();
create trigger access_truncated after truncate on escrow_parties for each statement execute function access_truncated();
comment on trigger access_truncated on users is 'Ends every session and revokes every token.';
comment on trigger access_truncated on streams is 'Ends every session.';
comment on trigger access_truncated on escrows is 'Ends every session.';
comment on trigger access_truncated on escrow_parties is 'Ends every session.';

revoke all on escrow_access from public;
revoke all on function
  escrow_access_settle(uuid, uuid, boolean), escrow_access_changed(), party_access_changed(), stream_access_tell(uuid, text[], uuid, text[]),
  stream_access_changed(),
  user_access_changed(), access_truncated()
from public;
