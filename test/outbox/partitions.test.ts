import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  append,
  column,
  failure,
  openSession,
  type Session,
  scalar,
  untilBlocked,
} from '../support/session.ts';

const WIDTH = 10;

describe('partitions of the outbox', () => {
  let database: TestDatabase;
  let pool: Pool;
  const sessions: Session[] = [];

  // Partitions of ten ids, two of them ahead.
  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    const made = await column<string>(
      pool,
      'select partition from outbox_partitions where from_id is not null',
    );
    for (const partition of made) await pool.query(`drop table ${partition}`);
    await pool.query(`update outbox_meta set partition_ids = ${WIDTH}`);
    await pool.query('select outbox_add_partitions(2)');
  });

  afterEach(async () => {
    for (const session of sessions.splice(0)) session.end();
    await database.drop();
  });

  const names = () =>
    column<string>(
      pool,
      'select partition from outbox_partitions where from_id is not null order by from_id',
    );
  const fill = (count: number) =>
    column<number>(pool, "select outbox_append('test:a', 'test:event', '{}') from generate_series(1, $1)", [
      count,
    ]);
  const inDefault = () => column<number>(pool, 'select id from outbox_default order by id');

  it('are made ahead of the sequence, once', async () => {
    expect(await names()).to.deep.equal(['outbox_p0', 'outbox_p10', 'outbox_p20']);
    expect(await scalar(pool, 'select outbox_add_partitions(2)')).to.equal(0);
    await fill(10);
    expect(await scalar(pool, 'select outbox_add_partitions(2)')).to.equal(1);
    expect(await names()).to.deep.equal(['outbox_p0', 'outbox_p10', 'outbox_p20', 'outbox_p30']);
    expect(await inDefault()).to.deep.equal([]);
  });

  it('have the keys, the types and the comment of the outbox', async () => {
    const { rows } = await pool.query(`
      select (select count(*) from pg_index i where i.indrelid = 'outbox_p20'::regclass) as indexes,
             (select string_agg(format_type(a.atttypid, null), ' ' order by a.attnum) from pg_attribute a
               where a.attrelid = 'outbox_p20'::regclass and a.attname in ('topic', 'type')) as types,
             obj_description('outbox_p20'::regclass) as comment`);
    expect(rows).to.deep.equal([
      { indexes: 2, types: 'outbox_topic outbox_type', comment: 'Events with ids from 20 to 29.' },
    ]);
  });

  it('are not missed by a writer: the default partition catches what planning did not, and all of it is read', async () => {
    const ids = await fill(35);
    expect(await inDefault()).to.deep.equal(ids.filter((id) => id >= 30));
    expect(await column(pool, 'select id from outbox_read(0)')).to.deep.equal(ids);
    expect(await scalar(pool, 'select outbox_add_partitions(2)')).to.be.above(0);
    await fill(20);
    expect(await column(pool, 'select id from outbox_read(0)')).to.have.length(55);
    expect((await inDefault()).at(-1), 'new ones go to partitions again').to.equal(35);
  });

  it('that come late, where the default partition is written to, make writers wait and none of them fail', async () => {
    const ids = await fill(35);
    const [maker, writer] = [await openSession(pool), await openSession(pool)];
    sessions.push(maker, writer);
    await maker.query('begin');
    expect(await scalar(maker, 'select outbox_add_partitions(2)')).to.be.above(0);
    const appended = append(writer);
    await untilBlocked(pool, writer.pid);
    await maker.query('commit');
    ids.push(await appended);
    expect(await inDefault()).not.to.include(ids.at(-1));
    expect(await column(pool, 'select id from outbox_read(0)')).to.deep.equal(ids);
  });

  it('are dropped when all their events are older, from the oldest on; what comes after stays', async () => {
    await fill(25);
    await pool.query("update outbox set created_at = now() - interval '2 hours' where id < 15");
    expect(await scalar(pool, "select outbox_drop_partitions(now() - interval '1 hour')")).to.equal(1);
    expect(await names()).to.deep.equal(['outbox_p10', 'outbox_p20']);
    expect(await scalar(pool, 'select dropped_through from outbox_meta')).to.equal(9);
    expect(await scalar(pool, 'select outbox_oldest()')).to.equal(9);
    expect(await scalar(pool, "select outbox_drop_partitions(now() - interval '1 hour')")).to.equal(0);
  });

  it('are kept while no later event is committed: an id of theirs may still come', async () => {
    await fill(8);
    const writer = await openSession(pool);
    sessions.push(writer);
    await writer.query('begin');
    expect(await append(writer)).to.equal(9);
    expect(await scalar(pool, "select outbox_drop_partitions('infinity')")).to.equal(0);
    await writer.query('commit');
    await append(pool);
    expect(await scalar(pool, "select outbox_drop_partitions('infinity')")).to.equal(1);
  });

  for (const [what, take, give] of [
    ['has a row in them', "select outbox_append('test:a', 'test:event', '{}') as id", 'select'],
    [
      'has an id of theirs and no row yet',
      'select outbox_next_id() as id',
      "insert into outbox_appending (id, topic, type, data) values (9, 'test:a', 'test:event', '{}')",
    ],
  ] as const) {
    it(`are kept while a writer in flight ${what}, though later ones are committed`, async () => {
      await fill(8);
      const writer = await openSession(pool);
      sessions.push(writer);
      await writer.query('begin');
      expect(await scalar(writer, take)).to.equal(9);
      await fill(5);
      expect(await scalar(pool, "select outbox_drop_partitions('infinity')")).to.equal(0);
      await writer.query(give);
      await writer.query('commit');
      expect(await column(pool, 'select id from outbox_read(8, 1)')).to.deep.equal([9]);
      expect(await scalar(pool, "select outbox_drop_partitions('infinity')")).to.equal(1);
    });
  }

  it('that are gone are no silent gap: a reader behind them is refused, one at their end goes on', async () => {
    const ids = await fill(25);
    await pool.query("select outbox_drop_partitions('infinity')");
    const { code, message } = await failure(pool.query('select * from outbox_read(8)'));
    expect(code).to.equal('P0002');
    expect(message).to.equal('the outbox no longer holds every event after 8');
    const oldest = await scalar<number>(pool, 'select outbox_oldest()');
    expect(oldest).to.equal(19);
    expect(await column(pool, 'select id from outbox_read($1)', [oldest])).to.deep.equal(
      ids.filter((id) => id > oldest),
    );
  });

  it('leave the head where it was, even when everything is gone', async () => {
    const ids = await fill(21);
    await pool.query("select outbox_drop_partitions('infinity')");
    expect(await scalar(pool, 'select outbox_head()')).to.equal(ids.at(-1));
    await pool.query('delete from outbox');
    expect(await scalar(pool, 'select outbox_head()')).to.equal(await scalar(pool, 'select outbox_oldest()'));
  });

  for (const ddl of ["outbox_drop_partitions('infinity')", 'outbox_add_partitions(9)']) {
    it(`${ddl.split('(')[0]} gives up after 100 ms behind an open reader, instead of holding up writers behind itself`, async () => {
      await fill(25);
      const reader = await openSession(pool);
      sessions.push(reader);
      await reader.query('begin; select count(*) from outbox');
      const { code } = await failure(pool.query(`select ${ddl}`)).catch(() => ({ code: 'done' }));
      // Attaching meets no reader of the outbox unless the default partition must be scanned; dropping always does.
      expect(code).to.be.oneOf(ddl.startsWith('outbox_add') ? ['55P03', 'done'] : ['55P03']);
      await append(pool);
      await reader.query('commit');
      await pool.query(`select ${ddl}`);
    });
  }
});
