-- stream:updated as in 0015, with one question instead of four for what streams do all day: that they are settled, and no more.
--
-- Each IF of PL/pgSQL is an expression that is made ready once in a transaction, and a transaction has one update of a stream, mostly.
-- For a new stream the values of OLD are null, and so is the answer.
do $migration$
begin
  execute replace($function$
create or replace function @.stream_updated_event() returns trigger
language plpgsql volatile security definer as $stream_updated_event$
begin
  if (new.id operator(pg_catalog.=) old.id and new.payer operator(pg_catalog.=) old.payer and new.recipient operator(pg_catalog.=) old.recipient
      and new.last_settled_at operator(pg_catalog.<>) old.last_settled_at) is not true
  then
    if tg_op operator(pg_catalog.=) 'UPDATE' then
      if new.id operator(pg_catalog.<>) old.id then
        perform @.stream_access_tell(old.id, array[old.payer, old.recipient], null, '{}');
        perform @.stream_access_tell(null, '{}', new.id, array[new.payer, new.recipient]);
      elsif (new.payer operator(pg_catalog.=) old.payer and new.recipient operator(pg_catalog.=) old.recipient) is not true then
        perform @.stream_access_tell(old.id, array[old.payer, old.recipient], new.id, array[new.payer, new.recipient]);
      end if;
      if new.status operator(pg_catalog.=) old.status
        and new.rate_per_second operator(pg_catalog.=) old.rate_per_second
        and new.total_amount operator(pg_catalog.=) old.total_amount
        and (new.end_time operator(pg_catalog.=) old.end_time or new.end_time is null and old.end_time is null)
        and (new.last_settled_at operator(pg_catalog.=) old.last_settled_at or new.last_settled_at is null and old.last_settled_at is null)
      then
        return null;
      end if;
    end if;
  end if;
  insert into @.outbox_appending (topic, type, data) values ('stream:' operator(pg_catalog.||) new.id, 'stream:updated', pg_catalog.json_build_object(
    'streamId', new.id,
    'status', new.status,
    'previousStatus', old.status,
    'ratePerSecond', new.rate_per_second::pg_catalog.text,
    'totalAmount', new.total_amount::pg_catalog.text,
    'lastSettledAt', @.outbox_time(new.last_settled_at),
    'endTime', @.outbox_time(new.end_time),
    'updatedAt', @.outbox_time(new.updated_at)));
  return null;
end
$stream_updated_event$
$function$, '@.', quote_ident(current_schema()) || '.');
end
$migration$;
