import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { untilAsleep } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { append, column, openSession, scalar } from '../support/session.ts';

describe('views for people', () => {
  let database: TestDatabase;
  let pool: Pool;

  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
  });

  after(() => database.drop());

  it('outbox_inflight names who holds the horizon, since when, and at which id', async () => {
    const last = await append(pool);
    const writer = await openSession(pool);
    try {
      await writer.query("set application_name = 'payroll'");
      await writer.query('begin');
      await append(writer);
      const { rows } = await pool.query(
        'select pid, usename = current_user as usename, application_name, state, since <= now() as since, horizon from outbox_inflight',
      );
      expect(rows).to.deep.equal([
        {
          pid: writer.pid,
          usename: true,
          application_name: 'payroll',
          state: 'idle in transaction',
          since: true,
          horizon: last,
        },
      ]);
      await writer.query('commit');
      expect(await column(pool, 'select pid from outbox_inflight')).to.deep.equal([]);
    } finally {
      writer.end();
    }
  });

  it('outbox_recent shows the newest hundred, newest first', async () => {
    const ids = await column<number>(
      pool,
      `select outbox_append('test:b', 'test:event', '{"a":1}') from generate_series(1, 120)`,
    );
    const { rows } = await pool.query('select * from outbox_recent');
    expect(rows.map(({ id }) => id)).to.deep.equal(ids.slice(20).reverse());
    expect(rows[0]).to.include({ topic: 'test:b', type: 'test:event' });
    expect(rows[0].data).to.deep.equal({ a: 1 });
  });

  it('outbox_partitions shows each partition: span, oldest, newest, rate and size', async () => {
    await pool.query("update outbox set created_at = now() - interval '5 minutes' where id <= 10");
    const { rows } = await pool.query('select * from outbox_partitions');
    const [first, second] = rows;
    const { count, oldest, newest } = (
      await pool.query('select count(*), min(id) as oldest, max(id) as newest from outbox')
    ).rows[0];
    expect(first).to.include({
      partition: 'outbox_p0',
      from_id: 0,
      to_id: 1_000_000,
      oldest_id: oldest,
      newest_id: newest,
      events_last_minute: count - 10,
    });
    expect(first.newest - first.oldest).to.be.within(290_000, 360_000);
    expect(first.bytes).to.be.above(8192);
    expect(second).to.include({ partition: 'outbox_p1000000', oldest_id: null, newest_id: null });
    expect(rows.at(-1)).to.include({ partition: 'outbox_default', from_id: null, to_id: null });
  });

  it('outbox_stats tells in one line of relays and their doorbell, writers in flight, horizon, lag, rate and size', async () => {
    const stats = async () => (await pool.query('select * from outbox_stats')).rows[0];
    expect(await stats()).to.include({ relays: 0, relays_listening: 0, relays_asleep: 0 });
    const service = await startService(database.url, { SAFETY_POLL_MS: '600000' });
    const [writer, outsider] = [await openSession(pool), await openSession(pool)];
    try {
      await untilAsleep(service);
      const before = await stats();
      const last = await scalar<number>(pool, 'select max(id) from outbox');
      expect(before).to.include({ relays: 1, relays_listening: 1, relays_asleep: 1, writers_in_flight: 0 });
      expect(before).to.include({ held_by: null, last_id: last, horizon: last, behind: 0, lag: null });
      expect(before.notify_queue).to.be.within(0, 1);
      const { rows } = await pool.query(
        'select sum(events_last_minute)::int as rate, sum(bytes)::int as bytes, min(oldest) as oldest, jsonb_object_agg(partition, bytes) as partition_bytes from outbox_partitions',
      );
      expect(before).to.deep.include({
        events_last_minute: rows[0].rate,
        oldest: rows[0].oldest,
        bytes: rows[0].bytes,
        partition_bytes: rows[0].partition_bytes,
      });
      await writer.query('begin');
      await append(writer);
      const hidden = await append(pool);
      const held = await stats();
      expect(held).to.include({ writers_in_flight: 1, held_by: writer.pid, last_id: hidden, horizon: last });
      expect(held).to.include({ behind: 2 });
      const { waits, holds } = (
        await pool.query(
          "select lag between '0' and '1 hour' as waits, held_for between lag and '1 hour' as holds from outbox_stats",
        )
      ).rows[0];
      expect([waits, holds]).to.deep.equal([true, true]);
      // A role that may see nothing else of the outbox, nor what other roles do.
      await pool.query('grant select on outbox_stats, outbox_id_seq to pg_signal_backend');
      await outsider.query('set role pg_signal_backend');
      expect((await outsider.query('select * from outbox_stats')).rows[0]).to.include({
        ...{ relays: 1, relays_listening: 1, relays_asleep: 1, writers_in_flight: 1, held_by: writer.pid },
        ...{ held_for: null, last_id: hidden, horizon: last, behind: 2 },
      });
    } finally {
      writer.end();
      outsider.end();
      await service.stop();
    }
  });

  it('every table, view, sequence, column, function, trigger and partition has a comment', async () => {
    const without = await column(
      pool,
      `select 'relation ' || c.oid::regclass from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'S')
          and obj_description(c.oid) is null
       union all
       select 'column ' || c.oid::regclass || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
          and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null
       union all
       select 'function ' || p.oid::regprocedure from pg_proc p
        where p.pronamespace = 'public'::regnamespace and obj_description(p.oid) is null
       union all
       select 'trigger ' || t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
        where c.relnamespace = 'public'::regnamespace and not t.tgisinternal and obj_description(t.oid) is null`,
    );
    expect(without).to.deep.equal([]);
    expect(await scalar(pool, "select obj_description('outbox'::regclass)")).to.match(/Append-only/);
  });
});
