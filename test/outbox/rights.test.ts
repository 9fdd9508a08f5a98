import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { append, column, failure, openSession, type Session, scalar } from '../support/session.ts';

const ROLE = 'outbox_rights_test';
const DENIED = '42501';

describe('rights', () => {
  let database: TestDatabase;
  let pool: Pool;
  let stranger: Session;

  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    await pool.query(
      `drop role if exists ${ROLE}; create role ${ROLE}; grant usage on schema public to ${ROLE}`,
    );
    await append(pool);
    stranger = await openSession(pool);
    await stranger.query(`set role ${ROLE}`);
  });

  after(async () => {
    stranger.end();
    await pool.query(`drop owned by ${ROLE}; drop role ${ROLE}`);
    await database.drop();
  });

  it("on functions: EXECUTE is nobody's but the owner's, on every one of them", async () => {
    const functions = await column<string>(
      pool,
      "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'public'::regnamespace order by 1",
    );
    expect(functions).to.include('outbox_append(text,text,json)').and.include('outbox_read(bigint,integer)');
    const open = await column(
      pool,
      `select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'public'::regnamespace and has_function_privilege($1, p.oid, 'execute')`,
      [ROLE],
    );
    expect(open).to.deep.equal([]);
  });

  it('on tables, views and sequences: none without a grant', async () => {
    const relations = await column<string>(
      pool,
      "select c.oid::regclass::text from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')",
    );
    expect(relations).to.include.members([
      'outbox',
      'outbox_default',
      'outbox_meta',
      'outbox_inflight',
      'streams',
    ]);
    for (const relation of relations)
      expect((await failure(stranger.query(`select from ${relation}`))).code, relation).to.equal(DENIED);
    for (const statement of [
      "select nextval('outbox_id_seq')",
      'select last_value from outbox_id_seq',
      "select setval('outbox_id_seq', 1)",
    ])
      expect((await failure(stranger.query(statement))).code, statement).to.equal(DENIED);
  });

  it('of whoever calls: none to append, read, publish, or open an epoch', async () => {
    for (const call of [
      "outbox_append('test:a', 'test:event', '{}')",
      "outbox_publish('test:a', 'test:event', '{}')",
      'outbox_read(0)',
      'outbox_horizon()',
      'outbox_head()',
      'outbox_new_epoch()',
      'outbox_add_partitions()',
      "outbox_drop_partitions('infinity')",
    ])
      expect((await failure(stranger.query(`select ${call}`))).code, call).to.equal(DENIED);
  });

  it('of a reader: SELECT on the outbox does not allow to change it; only its owner can', async () => {
    await pool.query(`grant select on outbox to ${ROLE}`);
    expect(await column(stranger, 'select id from outbox')).to.deep.equal([1]);
    for (const statement of [
      "update outbox set data = '{}'",
      'delete from outbox',
      'truncate outbox',
      "insert into outbox values (7, 'test:a', 'test:event', '{}', pg_current_xact_id(), now())",
      'drop table outbox',
      'alter table outbox disable trigger all',
      'delete from outbox_default',
    ])
      expect((await failure(stranger.query(statement))).code, statement).to.equal(DENIED);
  });

  it('of a publisher: EXECUTE on outbox_publish is all that it takes', async () => {
    await pool.query(`grant execute on function outbox_publish(text, text, json) to ${ROLE}`);
    const start = await scalar<number>(pool, 'select outbox_head()');
    await stranger.query("select outbox_publish('test:b', 'test:event', '{}')");
    expect(await column(pool, 'select topic from outbox_read($1)', [start])).to.deep.equal(['test:b']);
    expect((await failure(stranger.query('delete from outbox_publishing'))).code).to.equal(DENIED);
  });

  it("of a function's caller cannot bend it: search paths are pinned, temporary objects come last", async () => {
    const unpinned = await column(
      pool,
      `select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace = 'public'::regnamespace and p.prosecdef
          and not exists (select from unnest(p.proconfig) c where c ~ '^search_path=public, ?pg_temp$')
          -- Names everything with its schema instead, see attacks/search-path.
          and p.proname <> 'stream_updated_event'`,
    );
    expect(unpinned).to.deep.equal([]);
  });
});
