-- The domain: payment streams, settlements and escrows, written by backends that know nothing of the outbox.
--
-- Text that travels in events (hashes, codes, addresses) is held to the characters such things are made of, so that no
-- sentence and no address of a person can ride along in it. Free text (label, memo, title, reason …) never travels.

create table users (
  id uuid not null default gen_random_uuid(),
  wallet_address text,
  role text not null default 'USER',
  is_active boolean not null default true,
  constraint users_pkey primary key (id),
  constraint users_wallet_address_key unique (wallet_address),
  constraint users_wallet_address_form check (wallet_address ~ '^[A-Za-z0-9_.-]{1,128}$'),
  constraint users_role_known check (role in ('USER', 'ADMIN', 'SUPER_ADMIN'))
);
comment on table users is 'Who may sign in: maps a user id to its wallet and role.';
comment on column users.id is 'The user id: sub of the tokens, key of the topic user:{id}.';
comment on column users.wallet_address is 'The user''s wallet, stored in the form of wallet_normal(); null while none is linked.';
comment on column users.role is 'USER, ADMIN or SUPER_ADMIN; both admin roles may see every topic.';
comment on column users.is_active is 'False: may not sign in, and open sessions end.';

create table streams (
  id uuid not null default gen_random_uuid(),
  payer text not null,
  recipient text not null,
  status text not null default 'draft',
  rate_per_second numeric(20, 9) not null,
  total_amount numeric(20, 9) not null,
  start_time timestamptz,
  end_time timestamptz,
  last_settled_at timestamptz,
  chain_id text,
  transaction_hash text,
  label text,
  off_chain_memo text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint streams_pkey primary key (id),
  -- Also the grammar of a topic's key: a stream whose wallets could not be named would make its writer's commit fail.
  constraint streams_payer_form check (payer ~ '^[A-Za-z0-9_.-]{1,128}$'),
  constraint streams_recipient_form check (recipient ~ '^[A-Za-z0-9_.-]{1,128}$'),
  constraint streams_status_known check (status in ('draft', 'active', 'paused', 'completed', 'ended', 'withdrawn', 'cancelled')),
  constraint streams_rate_per_second_sane check (rate_per_second >= 0 and rate_per_second <> 'NaN'),
  constraint streams_total_amount_sane check (total_amount >= 0 and total_amount <> 'NaN'),
  constraint streams_chain_id_form check (chain_id ~ '^[A-Za-z0-9_:.-]{1,64}$'),
  constraint streams_transaction_hash_form check (transaction_hash ~ '^[A-Za-z0-9_:.-]{1,128}$')
);
create index streams_payer on streams (payer);
create index streams_recipient on streams (recipient);
comment on table streams is 'Payment streams: money that flows from a payer''s wallet to a recipient''s, second by second.';
comment on column streams.id is 'The stream id, key of the topic stream:{id}.';
comment on column streams.payer is 'Paying wallet, stored in the form of wallet_normal(): look it up with payer = wallet_normal($1).';
comment on column streams.recipient is 'Receiving wallet, stored in the form of wallet_normal().';
comment on column streams.status is 'draft, active, paused, completed, ended, withdrawn or cancelled.';
comment on column streams.rate_per_second is 'Amount that flows each second.';
comment on column streams.total_amount is 'Amount that the stream pays in all.';
comment on column streams.start_time is 'When money begins to flow.';
comment on column streams.end_time is 'When it has flowed in full; null while open-ended.';
comment on column streams.last_settled_at is 'Up to when the flow has been settled on chain.';
comment on column streams.chain_id is 'The chain it lives on, such as 1 or stellar:pubnet.';
comment on column streams.transaction_hash is 'The transaction that created it on chain.';
comment on column streams.label is 'The owner''s name for it. Personal: never in an event.';
comment on column streams.off_chain_memo is 'A note of the owner''s. Personal: never in an event.';
comment on column streams.created_at is 'When the row was made.';
comment on column streams.updated_at is 'When the row last changed; kept by a trigger unless the writer sets it.';

create table settlements (
  id uuid not null default gen_random_uuid(),
  stream_id uuid not null,
  status text not null default 'pending',
  amount numeric(20, 9) not null,
  asset text not null,
  tx_hash text,
  failure_code text,
  requested_at timestamptz not null default now(),
  finished_at timestamptz,
  constraint settlements_pkey primary key (id),
  constraint settlements_stream_id_fkey foreign key (stream_id) references streams (id),
  constraint settlements_status_known check (status in ('pending', 'succeeded', 'failed')),
  constraint settlements_amount_sane check (amount >= 0 and amount <> 'NaN'),
  constraint settlements_asset_form check (asset ~ '^[A-Za-z0-9_:.-]{1,128}$'),
  constraint settlements_tx_hash_form check (tx_hash ~ '^[A-Za-z0-9_:.-]{1,128}$'),
  constraint settlements_failure_code_form check (failure_code ~ '^[a-z0-9_.-]{1,64}$')
);
create index settlements_stream_id_finished_at on settlements (stream_id, finished_at desc nulls last);
comment on table settlements is 'Attempts to settle a stream''s flow on chain. A stream that has any cannot be deleted.';
comment on column settlements.id is 'The settlement id.';
comment on column settlements.stream_id is 'The stream it settles.';
comment on column settlements.status is 'pending, then succeeded or failed.';
comment on column settlements.amount is 'Amount settled.';
comment on column settlements.asset is 'What was paid, such as USDC or code:issuer.';
comment on column settlements.tx_hash is 'The transaction on chain; null while there is none.';
comment on column settlements.failure_code is 'Why it failed, as a code, such as insufficient_balance; never a sentence.';
comment on column settlements.requested_at is 'When it was asked for.';
comment on column settlements.finished_at is 'When it succeeded or failed.';

create table escrows (
  id uuid not null default gen_random_uuid(),
  title text not null default '',
  description text,
  amount numeric(18, 7) not null,
  released_amount numeric(18, 7) not null default 0,
  asset_code text not null default 'XLM',
  asset_issuer text,
  status text not null default 'pending',
  type text not null default 'standard',
  creator_id uuid not null,
  transaction_hash text,
  funded_at timestamptz,
  expires_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint escrows_pkey primary key (id),
  constraint escrows_creator_id_fkey foreign key (creator_id) references users (id),
  constraint escrows_amount_sane check (amount >= 0 and amount <> 'NaN'),
  constraint escrows_released_amount_sane check (released_amount >= 0 and released_amount <> 'NaN'),
  constraint escrows_asset_code_form check (asset_code ~ '^[A-Za-z0-9]{1,12}$'),
  constraint escrows_asset_issuer_form check (asset_issuer ~ '^[A-Za-z0-9_.-]{1,128}$'),
  constraint escrows_status_known check (status in ('pending', 'active', 'completed', 'cancelled', 'disputed', 'expired')),
  constraint escrows_type_known check (type in ('standard', 'milestone', 'timed')),
  constraint escrows_transaction_hash_form check (transaction_hash ~ '^[A-Za-z0-9_:.-]{1,128}$')
);
create index escrows_creator_id on escrows (creator_id);
comment on table escrows is 'Money held until its conditions are met.';
comment on column escrows.id is 'The escrow id, key of the topic escrow:{id}.';
comment on column escrows.title is 'What it is about. Free text: never in an event.';
comment on column escrows.description is 'What was agreed. Free text: never in an event.';
comment on column escrows.amount is 'Amount held in all.';
comment on column escrows.released_amount is 'Amount released so far.';
comment on column escrows.asset_code is 'What is held, such as XLM or USDC.';
comment on column escrows.asset_issuer is 'Issuer of the asset; null for the chain''s own coin.';
comment on column escrows.status is 'pending, active, completed, cancelled, disputed or expired.';
comment on column escrows.type is 'standard, milestone (released condition by condition) or timed.';
comment on column escrows.creator_id is 'Who opened it; may see it whether a party or not.';
comment on column escrows.transaction_hash is 'The latest transaction on chain.';
comment on column escrows.funded_at is 'When the money arrived.';
comment on column escrows.expires_at is 'When it lapses if nothing happens.';
comment on column escrows.created_at is 'When the row was made.';
comment on column escrows.updated_at is 'When the row last changed; kept by a trigger unless the writer sets it.';

create table escrow_parties (
  id uuid not null default gen_random_uuid(),
  escrow_id uuid not null,
  user_id uuid not null,
  role text not null,
  status text not null default 'pending',
  responded_at timestamptz,
  constraint escrow_parties_pkey primary key (id),
  constraint escrow_parties_escrow_id_user_id_role_key unique (escrow_id, user_id, role),
  constraint escrow_parties_escrow_id_fkey foreign key (escrow_id) references escrows (id) on delete cascade,
  constraint escrow_parties_user_id_fkey foreign key (user_id) references users (id),
  constraint escrow_parties_role_known check (role in ('buyer', 'seller', 'arbitrator')),
  constraint escrow_parties_status_known check (status in ('pending', 'accepted', 'rejected'))
);
create index escrow_parties_user_id on escrow_parties (user_id);
comment on table escrow_parties is 'Who takes part in an escrow. One person may have several roles, one row each.';
comment on column escrow_parties.id is 'The party id.';
comment on column escrow_parties.escrow_id is 'The escrow.';
comment on column escrow_parties.user_id is 'The person.';
comment on column escrow_parties.role is 'buyer, seller or arbitrator.';
comment on column escrow_parties.status is 'pending (invited), accepted or rejected; may see the escrow unless rejected.';
comment on column escrow_parties.responded_at is 'When they accepted or rejected.';

create table escrow_conditions (
  id uuid not null default gen_random_uuid(),
  escrow_id uuid not null,
  type text not null default 'manual',
  description text,
  amount numeric(18, 7),
  is_fulfilled boolean not null default false,
  is_met boolean not null default false,
  is_released boolean not null default false,
  released_at timestamptz,
  tx_hash text,
  constraint escrow_conditions_pkey primary key (id),
  constraint escrow_conditions_escrow_id_fkey foreign key (escrow_id) references escrows (id) on delete cascade,
  constraint escrow_conditions_type_known check (type in ('manual', 'time_based', 'oracle')),
  constraint escrow_conditions_amount_sane check (amount >= 0 and amount <> 'NaN'),
  constraint escrow_conditions_tx_hash_form check (tx_hash ~ '^[A-Za-z0-9_:.-]{1,128}$')
);
create index escrow_conditions_escrow_id on escrow_conditions (escrow_id);
comment on table escrow_conditions is 'What must be met before money is released. A milestone is a condition with an amount.';
comment on column escrow_conditions.id is 'The condition id.';
comment on column escrow_conditions.escrow_id is 'The escrow.';
comment on column escrow_conditions.type is 'manual, time_based or oracle.';
comment on column escrow_conditions.description is 'What must happen. Free text: never in an event.';
comment on column escrow_conditions.amount is 'Amount released when it is met; null if it releases none of its own.';
comment on column escrow_conditions.is_fulfilled is 'The seller says that it is done.';
comment on column escrow_conditions.is_met is 'The buyer, the clock or the oracle agrees.';
comment on column escrow_conditions.is_released is 'Its amount has been released.';
comment on column escrow_conditions.released_at is 'When it was released.';
comment on column escrow_conditions.tx_hash is 'The releasing transaction on chain.';

create table disputes (
  id uuid not null default gen_random_uuid(),
  escrow_id uuid not null,
  filed_by_user_id uuid not null,
  reason text,
  evidence text,
  status text not null default 'open',
  outcome text,
  seller_percent numeric(5, 2),
  buyer_percent numeric(5, 2),
  resolved_at timestamptz,
  constraint disputes_pkey primary key (id),
  constraint disputes_escrow_id_key unique (escrow_id),
  constraint disputes_escrow_id_fkey foreign key (escrow_id) references escrows (id) on delete cascade,
  constraint disputes_filed_by_user_id_fkey foreign key (filed_by_user_id) references users (id),
  constraint disputes_status_known check (status in ('open', 'under_review', 'resolved')),
  constraint disputes_outcome_known check (outcome in ('released_to_seller', 'refunded_to_buyer', 'split')),
  constraint disputes_seller_percent_sane check (seller_percent between 0 and 100),
  constraint disputes_buyer_percent_sane check (buyer_percent between 0 and 100)
);
create index disputes_filed_by_user_id on disputes (filed_by_user_id);
comment on table disputes is 'Disagreements about an escrow, at most one each.';
comment on column disputes.id is 'The dispute id.';
comment on column disputes.escrow_id is 'The escrow in dispute.';
comment on column disputes.filed_by_user_id is 'Who filed it.';
comment on column disputes.reason is 'Why. Personal: never in an event.';
comment on column disputes.evidence is 'What they hand in. Personal: never in an event.';
comment on column disputes.status is 'open, under_review or resolved.';
comment on column disputes.outcome is 'released_to_seller, refunded_to_buyer or split; null until resolved.';
comment on column disputes.seller_percent is 'The seller''s share, 0 to 100.';
comment on column disputes.buyer_percent is 'The buyer''s share, 0 to 100.';
comment on column disputes.resolved_at is 'When it was resolved.';

create table notifications (
  id uuid not null default gen_random_uuid(),
  user_id uuid not null,
  escrow_id uuid,
  event_type text not null,
  payload jsonb default '{}',
  status text not null default 'pending',
  read_at timestamptz,
  created_at timestamptz not null default now(),
  constraint notifications_pkey primary key (id),
  constraint notifications_user_id_fkey foreign key (user_id) references users (id) on delete cascade,
  constraint notifications_escrow_id_fkey foreign key (escrow_id) references escrows (id) on delete set null,
  constraint notifications_event_type_form check (event_type ~ '^[A-Za-z0-9_.:-]{1,64}$'),
  constraint notifications_status_known check (status in ('pending', 'sent', 'failed'))
);
create index notifications_user_id_created_at on notifications (user_id, created_at desc);
create index notifications_escrow_id on notifications (escrow_id) where escrow_id is not null;
comment on table notifications is 'Messages to a user about something that happened.';
comment on column notifications.id is 'The notification id.';
comment on column notifications.user_id is 'Whom it is for.';
comment on column notifications.escrow_id is 'The escrow it is about, if any.';
comment on column notifications.event_type is 'What happened, as a code, such as escrow.funded.';
comment on column notifications.payload is 'Details for the renderer. Personal: only the keys that notification_new_event() lists travel.';
comment on column notifications.status is 'Delivery by mail or push: pending, sent or failed.';
comment on column notifications.read_at is 'When the user read it; null while unread.';
comment on column notifications.created_at is 'When it was made.';

create function domain_touch() returns trigger
language plpgsql volatile set search_path from current as $$
begin
  new.updated_at := clock_timestamp();
  return new;
end
$$;
comment on function domain_touch() is 'Trigger: sets updated_at. Clock time, so that two updates in one transaction differ.';

create trigger streams_touch before update on streams
  for each row when (new.updated_at is not distinct from old.updated_at) execute function domain_touch();
create trigger escrows_touch before update on escrows
  for each row when (new.updated_at is not distinct from old.updated_at) execute function domain_touch();
comment on trigger streams_touch on streams is 'Keeps updated_at when the writer does not.';
comment on trigger escrows_touch on escrows is 'Keeps updated_at when the writer does not.';

-- Addresses are stored in their one normal form. An index on wallet_normal(payer) would do for lookups, but would make every
-- writer need EXECUTE on wallet_normal(); these triggers run as their owner, so writers need rights on the tables only.
create function users_wallet_normal() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  new.wallet_address := wallet_normal(new.wallet_address);
  return new;
end
$$;
comment on function users_wallet_normal() is 'Trigger: stores the wallet in its normal form.';

create function streams_wallets_normal() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  new.payer := wallet_normal(new.payer);
  new.recipient := wallet_normal(new.recipient);
  return new;
end
$$;
comment on function streams_wallets_normal() is 'Trigger: stores both wallets in their normal form.';

create trigger users_wallet_normal before insert or update of wallet_address on users
  for each row execute function users_wallet_normal();
create trigger streams_wallets_normal before insert or update of payer, recipient on streams
  for each row execute function streams_wallets_normal();
comment on trigger users_wallet_normal on users is 'Stores the wallet in its normal form.';
comment on trigger streams_wallets_normal on streams is 'Stores both wallets in their normal form.';

revoke all on function domain_touch(), users_wallet_normal(), streams_wallets_normal() from public;
