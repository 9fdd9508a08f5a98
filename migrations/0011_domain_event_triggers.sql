-- From a change of the domain to its event: one deferred trigger for each row of the catalogue (src/outbox/catalogue.ts).
--
-- Deferred, so that ids are taken at commit and a long transaction holds up nobody. Each trigger still sees its row as
-- that one statement left it, so two changes in one transaction are two events, in order. WHEN decides before anything is
-- queued: a row that causes no event costs no memory and no call. (But see event_stream_updated.) Triggers on one table and one
-- statement fire by name.
--
-- Payloads are built with json_build_object, never jsonb, and money and times as text: nothing is parsed again on its way. They have
-- no line breaks, and the CHECKs of 0010 keep each below 2,048 bytes, so they need not be measured and are inserted directly.

create function outbox_time(at timestamptz) returns text language sql stable parallel safe
return to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"');
comment on function outbox_time(timestamptz) is
  'A time as events carry it: ISO 8601, UTC, milliseconds, whatever the session''s TimeZone and DateStyle; null for infinity, which to_char() does not spell.';

-- One trigger for every update of a stream, although few columns matter, and with the access events of 0012: a WHEN that compares
-- them is parsed anew for every UPDATE statement, which costs a writer of one row more than the call does.
create function stream_updated_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  if tg_op = 'UPDATE' then
    if new.id <> old.id then
      perform stream_access_tell(old.id, array[old.payer, old.recipient], null, '{}');
      perform stream_access_tell(null, '{}', new.id, array[new.payer, new.recipient]);
    elsif new.payer is distinct from old.payer or new.recipient is distinct from old.recipient then
      perform stream_access_tell(old.id, array[old.payer, old.recipient], new.id, array[new.payer, new.recipient]);
    end if;
    if new.status is not distinct from old.status
      and new.rate_per_second is not distinct from old.rate_per_second
      and new.total_amount is not distinct from old.total_amount
      and new.end_time is not distinct from old.end_time
      and new.last_settled_at is not distinct from old.last_settled_at
    then
      return null;
    end if;
  end if;
  insert into outbox_appending (topic, type, data) values ('stream:' || new.id, 'stream:updated', json_build_object(
    'streamId', new.id,
    'status', new.status,
    'previousStatus', old.status,
    'ratePerSecond', new.rate_per_second::text,
    'totalAmount', new.total_amount::text,
    'lastSettledAt', outbox_time(new.last_settled_at),
    'endTime', outbox_time(new.end_time),
    'updatedAt', outbox_time(new.updated_at)));
  return null;
end
$$;
comment on function stream_updated_event() is
  'Trigger: appends access events if payer or recipient changed, and stream:updated if what it tells has; previousStatus is null for a new stream.';

create constraint trigger event_stream_inserted after insert on streams deferrable initially deferred
  for each row execute function stream_updated_event();
create constraint trigger event_stream_updated after update on streams deferrable initially deferred
  for each row execute function stream_updated_event();
comment on trigger event_stream_inserted on streams is 'stream:updated for a new stream.';
comment on trigger event_stream_updated on streams is
  'stream:updated when status, rate, total, end or settled time changed; before it access:granted and access:revoked when payer, recipient or id did.';

create function settle_finished_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  insert into outbox_appending (topic, type, data) values ('stream:' || new.stream_id, 'settle:finished', json_build_object(
    'settlementId', new.id,
    'streamId', new.stream_id,
    'status', new.status,
    'amount', new.amount::text,
    'asset', new.asset,
    'txHash', new.tx_hash,
    'failureCode', new.failure_code,
    'finishedAt', outbox_time(new.finished_at)));
  return null;
end
$$;
comment on function settle_finished_event() is 'Trigger: appends settle:finished.';

create constraint trigger event_settle_inserted after insert on settlements deferrable initially deferred
  for each row when (new.status in ('succeeded', 'failed')) execute function settle_finished_event();
create constraint trigger event_settle_finished after update on settlements deferrable initially deferred
  for each row when (new.status in ('succeeded', 'failed') and new.status is distinct from old.status)
  execute function settle_finished_event();
comment on trigger event_settle_inserted on settlements is 'settle:finished for a settlement recorded as already finished.';
comment on trigger event_settle_finished on settlements is 'settle:finished when a settlement becomes succeeded or failed.';

create function escrow_status_changed_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  insert into outbox_appending (topic, type, data) values ('escrow:' || new.id, 'escrow:status_changed', json_build_object(
    'escrowId', new.id,
    'previousStatus', old.status,
    'status', new.status,
    'txHash', new.transaction_hash,
    'updatedAt', outbox_time(new.updated_at)));
  return null;
end
$$;
comment on function escrow_status_changed_event() is 'Trigger: appends escrow:status_changed.';

create constraint trigger event_escrow_status_changed after update on escrows deferrable initially deferred
  for each row when (new.status is distinct from old.status) execute function escrow_status_changed_event();
comment on trigger event_escrow_status_changed on escrows is 'escrow:status_changed when the status changed; a new escrow is announced by access:granted.';

-- The escrow's own columns are as they stand at commit, not as they were when the condition changed.
create function escrow_milestone_released_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  insert into outbox_appending (topic, type, data)
  select 'escrow:' || new.escrow_id, 'escrow:milestone_released', json_build_object(
    'escrowId', new.escrow_id,
    'conditionId', new.id,
    'amount', new.amount::text,
    'asset', e.asset_code,
    'releasedAmount', e.released_amount::text,
    'txHash', new.tx_hash,
    'releasedAt', outbox_time(new.released_at))
    from escrows e where e.id = new.escrow_id;
  return null;
end
$$;
comment on function escrow_milestone_released_event() is
  'Trigger: appends escrow:milestone_released; nothing if the escrow is deleted in the same transaction.';

create constraint trigger event_milestone_inserted after insert on escrow_conditions deferrable initially deferred
  for each row when (new.is_released) execute function escrow_milestone_released_event();
create constraint trigger event_milestone_released after update on escrow_conditions deferrable initially deferred
  for each row when (new.is_released and not old.is_released) execute function escrow_milestone_released_event();
comment on trigger event_milestone_inserted on escrow_conditions is 'escrow:milestone_released for a condition recorded as already released.';
comment on trigger event_milestone_released on escrow_conditions is 'escrow:milestone_released when a condition becomes released.';

create function escrow_role(escrow uuid, person uuid) returns text language sql stable parallel safe set search_path from current
return coalesce(
  (select p.role from escrow_parties p
    where p.escrow_id = escrow and p.user_id = person
    order by p.status = 'rejected', array_position(array['buyer', 'seller', 'arbitrator'], p.role)
    limit 1),
  (select 'creator' from escrows e where e.id = escrow and e.creator_id = person));
comment on function escrow_role(uuid, uuid) is
  'In which role a person meets an escrow: buyer, seller or arbitrator (the first of these that they have not rejected, else that they have), else creator, else null (staff).';

create function escrow_dispute_filed_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  insert into outbox_appending (topic, type, data) values ('escrow:' || new.escrow_id, 'escrow:dispute_filed', json_build_object(
    'escrowId', new.escrow_id,
    'disputeId', new.id,
    'filedByRole', escrow_role(new.escrow_id, new.filed_by_user_id),
    'status', new.status));
  return null;
end
$$;
comment on function escrow_dispute_filed_event() is 'Trigger: appends escrow:dispute_filed; who filed it appears only as a role.';

create function escrow_dispute_resolved_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  insert into outbox_appending (topic, type, data) values ('escrow:' || new.escrow_id, 'escrow:dispute_resolved', json_build_object(
    'escrowId', new.escrow_id,
    'disputeId', new.id,
    'outcome', new.outcome,
    'sellerPercent', new.seller_percent::text,
    'buyerPercent', new.buyer_percent::text,
    'resolvedAt', outbox_time(new.resolved_at)));
  return null;
end
$$;
comment on function escrow_dispute_resolved_event() is 'Trigger: appends escrow:dispute_resolved.';

create constraint trigger event_dispute_filed after insert on disputes deferrable initially deferred
  for each row execute function escrow_dispute_filed_event();
create constraint trigger event_dispute_filed_resolved after insert on disputes deferrable initially deferred
  for each row when (new.status = 'resolved') execute function escrow_dispute_resolved_event();
create constraint trigger event_dispute_resolved after update on disputes deferrable initially deferred
  for each row when (new.status = 'resolved' and old.status is distinct from 'resolved')
  execute function escrow_dispute_resolved_event();
comment on trigger event_dispute_filed on disputes is 'escrow:dispute_filed for a new dispute.';
comment on trigger event_dispute_filed_resolved on disputes is 'escrow:dispute_resolved, after event_dispute_filed, for a dispute recorded as already resolved.';
comment on trigger event_dispute_resolved on disputes is 'escrow:dispute_resolved when a dispute becomes resolved.';

create function escrow_party_joined_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  insert into outbox_appending (topic, type, data) values ('escrow:' || new.escrow_id, 'escrow:party_joined', json_build_object(
    'escrowId', new.escrow_id,
    'partyId', new.id,
    'role', new.role,
    'status', new.status,
    'respondedAt', outbox_time(new.responded_at)));
  return null;
end
$$;
comment on function escrow_party_joined_event() is 'Trigger: appends escrow:party_joined; the person appears only as a party id and a role.';

create constraint trigger event_party_inserted after insert on escrow_parties deferrable initially deferred
  for each row when (new.status = 'accepted') execute function escrow_party_joined_event();
create constraint trigger event_party_joined after update on escrow_parties deferrable initially deferred
  for each row when (new.status = 'accepted' and old.status is distinct from 'accepted')
  execute function escrow_party_joined_event();
comment on trigger event_party_inserted on escrow_parties is 'escrow:party_joined for a party recorded as already accepted.';
comment on trigger event_party_joined on escrow_parties is 'escrow:party_joined when a party accepts.';

-- A payload is whatever its writer put there. A value travels only under a key listed below, only if it is a string or a
-- number, and only if it looks like what the key promises: a name or an address of a person looks like none of them.
create function notification_detail(payload jsonb, key text, form text) returns text language sql immutable parallel safe
return case when jsonb_typeof(payload -> key) in ('string', 'number') and payload ->> key ~ form then payload ->> key end;
comment on function notification_detail(jsonb, text, text) is
  'The value of a key of a notification''s payload as text, if it is a string or a number and matches the form; else null.';

-- The payload's own "status" is left out: the key already means the notification's.
create function notification_new_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
declare
  uuid_form constant text := '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$';
begin
  insert into outbox_appending (topic, type, data) values ('user:' || new.user_id, 'notification:new', json_build_object(
    'id', new.id,
    'escrowId', new.escrow_id,
    'eventType', new.event_type,
    'status', new.status,
    'createdAt', outbox_time(new.created_at),
    'streamId', notification_detail(new.payload, 'streamId', uuid_form),
    'conditionId', notification_detail(new.payload, 'conditionId', uuid_form),
    'disputeId', notification_detail(new.payload, 'disputeId', uuid_form),
    'settlementId', notification_detail(new.payload, 'settlementId', uuid_form),
    'amount', notification_detail(new.payload, 'amount', '^-?[0-9]{1,40}([.][0-9]{1,20})?$'),
    'asset', notification_detail(new.payload, 'asset', '^[A-Za-z0-9]{1,12}(:[A-Za-z0-9]{1,64})?$'),
    'txHash', notification_detail(new.payload, 'txHash', '^(0x)?[A-Za-z0-9]{32,128}$')));
  return null;
end
$$;
comment on function notification_new_event() is 'Trigger: appends notification:new with the listed keys of the payload, null where they are missing or look wrong.';

create function notification_read_event() returns trigger
language plpgsql volatile security definer set search_path from current as $$
begin
  insert into outbox_appending (topic, type, data) values ('user:' || new.user_id, 'notification:read', json_build_object(
    'id', new.id,
    'readAt', outbox_time(new.read_at)));
  return null;
end
$$;
comment on function notification_read_event() is 'Trigger: appends notification:read.';

create constraint trigger event_notification_new after insert on notifications deferrable initially deferred
  for each row execute function notification_new_event();
create constraint trigger event_notification_new_read after insert on notifications deferrable initially deferred
  for each row when (new.read_at is not null) execute function notification_read_event();
create constraint trigger event_notification_read after update on notifications deferrable initially deferred
  for each row when (new.read_at is not null and new.read_at is distinct from old.read_at)
  execute function notification_read_event();
comment on trigger event_notification_new on notifications is 'notification:new for a new notification.';
comment on trigger event_notification_new_read on notifications is 'notification:read, after event_notification_new, for one recorded as already read.';
comment on trigger event_notification_read on notifications is 'notification:read when read_at is set.';

revoke all on function
  outbox_time(timestamptz), escrow_role(uuid, uuid), notification_detail(jsonb, text, text),
  stream_updated_event(), settle_finished_event(), escrow_status_changed_event(), escrow_milestone_released_event(),
  escrow_dispute_filed_event(), escrow_dispute_resolved_event(), escrow_party_joined_event(),
  notification_new_event(), notification_read_event()
from public;
