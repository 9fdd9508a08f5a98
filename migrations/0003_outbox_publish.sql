-- Events that a transaction publishes itself. They wait for its commit in an unlogged table, so that publishing in the middle of a
-- long transaction holds back nobody's horizon: the deferred trigger appends them at commit and takes the waiting row away.

-- Blockchain addresses in the one form in which they are compared: 0x addresses in lower case, Stellar accounts in upper case,
-- all others (base58 is case-sensitive) as they are.
create function wallet_normal(address text) returns text language sql immutable parallel safe strict
return case
  -- By ASCII, as other programs do it: in a Turkish database upper('i') is another letter.
  when address collate "C" ~* '^0x[0-9a-f]{40}$' then lower(address collate "C")
  when address collate "C" ~* '^G[A-Z2-7]{55}$' then upper(address collate "C")
  else address
end;
comment on function wallet_normal(text) is 'A wallet address in the one form in which topics carry it.';

create unlogged table outbox_publishing (
  number bigint generated always as identity,
  topic text not null,
  type text not null,
  data json not null,
  constraint outbox_publishing_pkey primary key (number)
);
comment on table outbox_publishing is 'Events published by transactions that are still open; empty between transactions.';
comment on sequence outbox_publishing_number_seq is 'Numbers of outbox_publishing.';
comment on column outbox_publishing.number is 'Order of publishing within a transaction.';
comment on column outbox_publishing.topic is 'As in outbox.';
comment on column outbox_publishing.type is 'As in outbox.';
comment on column outbox_publishing.data is 'As in outbox.';

create function outbox_publish_at_commit() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  perform outbox_append(new.topic, new.type, new.data);
  delete from outbox_publishing where number = new.number;
  return null;
end
$$;
comment on function outbox_publish_at_commit() is 'Appends a published event at its transaction''s commit.';

create constraint trigger outbox_publish_at_commit after insert on outbox_publishing
  deferrable initially deferred for each row execute function outbox_publish_at_commit();
comment on trigger outbox_publish_at_commit on outbox_publishing is 'Appends the event at commit.';

create function outbox_publish(topic text, type text, data json) returns void
language plpgsql volatile security definer set search_path from current as $$
#variable_conflict use_variable
declare
  kind text := split_part(topic, ':', 1);
  key text := substr(topic, length(kind) + 2);
begin
  if topic is null or topic !~ '^[a-z]+:[A-Za-z0-9_.-]{1,128}$' then
    raise exception 'not a topic: %', coalesce(quote_literal(left(topic, 200)), 'null')
      using errcode = 'invalid_parameter_value', hint = 'A topic is kind:key, such as escrow:7f1d…; the key has letters, digits, "_", "." and "-", 128 at most.';
  end if;
  if type is null or type !~ '^[a-z]+:[a-z_]+$' then
    raise exception 'not an event type: %', coalesce(quote_literal(left(type, 200)), 'null')
      using errcode = 'invalid_parameter_value', hint = 'An event type is two lower-case words with a colon between them, such as escrow:status_changed.';
  end if;
  if type like 'access:%' then
    raise exception 'event type % is reserved', quote_literal(type)
      using errcode = 'insufficient_privilege', hint = 'Access changes follow from the tables; nobody can announce them.';
  end if;
  if data is null then
    raise exception 'an event needs data' using errcode = 'null_value_not_allowed', hint = 'Pass at least ''{}''.';
  end if;
  if kind = 'wallet' then
    topic := 'wallet:' || wallet_normal(key);
  elsif key ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    topic := kind || ':' || lower(key);
  end if;
  insert into outbox_publishing (topic, type, data) values (topic, type, data);
end
$$;
comment on function outbox_publish(text, text, json) is
  'Publishes an event at the commit of the current transaction, or not at all if it rolls back. Grant EXECUTE to roles that may publish: they may then publish to any topic.';

revoke all on function wallet_normal(text), outbox_publish_at_commit(), outbox_publish(text, text, json) from public;
revoke all on outbox_publishing from public;
