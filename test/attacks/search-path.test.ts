import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { column, openSession, scalar } from '../support/session.ts';

const ROLE = 'bender';
const UNPINNED = ['stream_updated_event', 'outbox_is_marked', 'outbox_next_id_marking', 'outbox_keep_heap'];
const TEXTS = (count: number): string => Array<string>(count).fill('text').join(', ');
/** What they call, with the arguments that they pass. */
const FUNCTIONS = [
  'outbox_time(timestamptz) returns text',
  'stream_access_tell(uuid, text[], uuid, text[]) returns void',
  `json_build_object(text, uuid, ${TEXTS(14)}) returns json`,
  'current_setting(text) returns text',
  'current_setting(text, boolean) returns text',
  'set_config(text, text, boolean) returns text',
  'nextval(regclass) returns bigint',
  'pg_try_advisory_lock(bigint) returns boolean',
  'pg_advisory_unlock(bigint) returns boolean',
  'pg_notify(text, text) returns void',
  'outbox_is_marked(regclass) returns boolean',
  'outbox_mark_lower() returns boolean',
  'pg_sequence_last_value(regclass) returns bigint',
  'pg_try_advisory_xact_lock_shared(bigint) returns boolean',
  'octet_length(text) returns integer',
  'repeat(text, integer) returns text',
];

/** A schema with an operator, function, type or table of the same name for everything that the function names; each says so when it is used. */
async function makeBent(pool: Pool): Promise<void> {
  await pool.query(`create schema bent; grant usage on schema bent to ${ROLE};
    create table bent.outbox_appending (topic text, type text, data json);
    create domain bent.text as pg_catalog.text check (false)`);
  for (const signature of FUNCTIONS)
    await pool.query(
      `create function bent.${signature} language plpgsql as $$ begin raise exception 'bent: ${signature}'; end $$`,
    );
  const operators = await column<string>(
    pool,
    `select format('create function bent.%1$I(%2$s, %3$s) returns %4$s language plpgsql as $f$ begin raise exception %5$L; end $f$;
                    create operator bent.%6$s (leftarg = %2$s, rightarg = %3$s, function = bent.%1$I)',
                   'operator_' || o.oid, o.oprleft::regtype, r.t, o.oprresult::regtype, 'bent: ' || o.oprname, o.oprname)
       from pg_operator o,
            lateral (select case o.oprright when 'anynonarray'::regtype then 'uuid' else format_type(o.oprright, null) end as t) r
      where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprname in ('=', '<>', '||', '~', '!~', '<', '<=', '>', '>=', '<<', '|')
        and o.oprleft = any ('{uuid,text,numeric,timestamptz,int4,int8}'::regtype[])
        and o.oprright = any ('{uuid,text,numeric,timestamptz,int4,int8,anynonarray}'::regtype[])`,
  );
  expect(operators).to.have.length.above(40);
  for (const operator of operators) await pool.query(operator);
  await pool.query(`grant execute on all functions in schema bent to ${ROLE}`);
}

/**
 * Every way through the functions: each kind of change, a second event of a transaction; a mark that says nothing, commits that would be
 * asynchronous, a relay that sleeps, and a stranger who has a writer's key.
 */
async function updateStreams(pool: Pool, searchPath: string): Promise<unknown[]> {
  await pool.query(`truncate streams cascade; insert into streams (id, payer, recipient, rate_per_second, total_amount)
    select lpad(n::text, 32, '0')::uuid, 'alice' || n, 'bob', 1, 2 from generate_series(1, 2) n`);
  const start = await scalar<number>(pool, 'select outbox_head()');
  const writer = await openSession(pool);
  const others = await openSession(pool);
  try {
    await others.query('select pg_advisory_lock_shared(21336::bigint << 48)');
    await writer.query("set settlewire.in_flight = 'nothing'; set synchronous_commit = off");
    await writer.query(`set role ${ROLE}; set search_path = ${searchPath}`);
    for (const [n, change] of [
      `status = 'paused'`,
      `end_time = '2030-01-01', last_settled_at = '2030-01-01'`,
      `rate_per_second = 3`,
      `payer = 'carol'`,
      `recipient = 'dave'`,
      `id = overlay(id::pg_catalog.text placing 'f' from 1 for 1)::uuid`,
      `label = 'told to nobody'`,
      `end_time = null`,
    ].entries()) {
      if (n === 0)
        await others.query(
          "select pg_advisory_lock((21335::bigint << 48) | pg_sequence_last_value('outbox_id_seq'))",
        );
      if (n === 1) await others.query('select pg_advisory_unlock_all()');
      await writer.query(`update public.streams set ${change}, updated_at = '2030-01-0${n + 1}'`);
    }
  } finally {
    writer.end();
    others.end();
  }
  return column(pool, `select topic || ' ' || type || ' ' || data from outbox_read($1)`, [start]);
}

describe('a search_path that puts other things first', () => {
  let database: TestDatabase;
  let pool: Pool;
  before(async () => {
    database = await createTestDatabase();
    ({ pool } = database);
    await pool.query(`drop role if exists ${ROLE}; create role ${ROLE}`);
    await pool.query(`grant usage on schema public to ${ROLE}; grant select, update on streams to ${ROLE}`);
    await makeBent(pool);
  });
  after(async () => {
    await pool.query(`drop owned by ${ROLE} cascade; drop role ${ROLE}`);
    await database.drop();
  });

  it('is met by no other function that runs as its owner without a search_path of its own', async () => {
    expect(
      await column(
        pool,
        `select p.proname from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prosecdef
            and not exists (select from unnest(p.proconfig) c where c ~ '^search_path=public, ?pg_temp$')`,
      ),
    ).to.deep.equal(['stream_updated_event']);
  });

  it('does not bend what an update of streams does', async () => {
    const events = await updateStreams(pool, 'public');
    expect(events).to.have.length.above(20);
    expect(await updateStreams(pool, 'bent, pg_catalog, public')).to.deep.equal(events);
  });

  it('would bend it by any name that came without its schema', async () => {
    const events = await updateStreams(pool, 'public');
    const unbent: string[] = [];
    for (const name of UNPINNED) {
      const source = await scalar<string>(pool, 'select pg_get_functiondef($1::regproc)', [name]);
      // A type after DECLARE is not bent even without its schema.
      const body = source.indexOf('begin');
      const places = [
        ...source.matchAll(/operator\(pg_catalog\.(\S+?)\)|(?:pg_catalog|public)\.(?=\w)/g),
      ].filter(({ index }) => index > body);
      expect(places).to.have.length.above(3);
      for (const { 0: qualified, 1: operator = '', index } of places) {
        await pool.query(source.slice(0, index) + operator + source.slice(index + qualified.length));
        const bent = await updateStreams(pool, 'bent, pg_catalog, public').catch(() => undefined);
        if (bent?.join() === events.join()) unbent.push(`${name}: ${source.slice(index - 30, index + 40)}`);
      }
      await pool.query(source);
    }
    expect(unbent).to.deep.equal([]);
  });
});
