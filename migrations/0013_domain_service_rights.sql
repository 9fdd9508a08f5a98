-- What the service reads of the business tables, column by column: who may see what, and the fields that events carry. Free text,
-- labels, memos, titles, evidence and payloads are not among them, so a service that has been taken over cannot read them either.

insert into outbox_service_rights (kind, object, columns) values
  ('table', 'users', '{id,wallet_address,role,is_active}'),
  ('table', 'streams',
   '{id,payer,recipient,status,rate_per_second,total_amount,last_settled_at,end_time,created_at,updated_at}'),
  ('table', 'settlements', '{id,stream_id,status,amount,asset,tx_hash,failure_code,finished_at}'),
  ('table', 'escrows',
   '{id,creator_id,status,amount,released_amount,asset_code,transaction_hash,created_at,updated_at}'),
  ('table', 'escrow_parties', '{id,escrow_id,user_id,role,status,responded_at}'),
  ('table', 'escrow_conditions', '{id,escrow_id,amount,is_released,released_at,tx_hash}'),
  ('table', 'disputes',
   '{id,escrow_id,filed_by_user_id,status,outcome,seller_percent,buyer_percent,resolved_at}'),
  ('table', 'notifications', '{id,user_id,escrow_id,event_type,status,read_at,created_at}'),
  ('function', 'outbox_time(timestamptz)', '{}'),
  ('function', 'escrow_role(uuid,uuid)', '{}');
