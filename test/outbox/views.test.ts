import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
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

  it('outbox_stats shows each partition: span, oldest, newest, rate and size', async () => {
    await pool.query("update outbox set created_at = now() - interval '5 minutes' where id <= 10");
    const { rows } = await pool.query('select * from outbox_stats');
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
