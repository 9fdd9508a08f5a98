import { expect } from 'chai';
import type pg from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { appendedBy, insert, newEscrow, newParty, newStream, newUser, update } from './fixtures.ts';

const INSUFFICIENT_PRIVILEGE = '42501';

describe('an application role with rights on the domain tables only', () => {
  let database: TestDatabase;
  let application: pg.PoolClient;
  let role: string;

  before(async () => {
    database = await createTestDatabase();
    application = await database.pool.connect();
    const { rows } = await application.query('select current_database() as name');
    role = `${rows[0].name}_application`;
    await application.query(`
      create role ${role};
      grant select, insert, update, delete
        on users, streams, settlements, escrows, escrow_parties, escrow_conditions, disputes, notifications to ${role};
      set role ${role}`);
  });
  after(async () => {
    await application.query(`reset role; drop owned by ${role}; drop role ${role}`);
    application.release();
    await database.drop();
  });

  it('causes every kind of event', async () => {
    const events = await appendedBy(database.pool, async () => {
      const wallet_address = `0x${'A'.repeat(40)}`;
      const user = await newUser(application, { wallet_address });
      const stream_id = await newStream(application, { payer: wallet_address });
      await insert(application, 'settlements', { stream_id, status: 'succeeded', amount: 1, asset: 'USDC' });
      const escrow_id = await newEscrow(application, { creator_id: user });
      await update(application, 'escrows', escrow_id, { status: 'active' });
      await newParty(application, escrow_id, user, { status: 'accepted' });
      await insert(application, 'escrow_conditions', { escrow_id, is_released: true });
      await insert(application, 'disputes', { escrow_id, filed_by_user_id: user, status: 'resolved' });
      await insert(application, 'notifications', { user_id: user, event_type: 'x', read_at: new Date() });
      await application.query('delete from escrows where id = $1', [escrow_id]);
      await update(application, 'users', user, { is_active: false });
    });
    expect(events.map(({ type }) => type)).to.deep.equal([
      'access:revoked',
      'access:revoked',
      'access:granted',
      'access:granted',
      'stream:updated',
      'settle:finished',
      'access:granted',
      'escrow:status_changed',
      'escrow:party_joined',
      'escrow:milestone_released',
      'escrow:dispute_filed',
      'escrow:dispute_resolved',
      'notification:new',
      'notification:read',
      'access:revoked',
      'access:revoked',
      'access:revoked',
    ]);
  });

  for (const statement of [
    `select outbox_append('user:x', 'access:granted', '{}')`,
    `select escrow_access_settle(gen_random_uuid(), gen_random_uuid(), false)`,
    `select from outbox`,
    `select from outbox_default`,
    `insert into outbox values (1, 'user:x', 'a:b', '{}', '1', now())`,
    `update outbox set data = '{}'`,
    `delete from outbox`,
    `truncate outbox`,
    `select nextval('outbox_id_seq')`,
    `select from escrow_access`,
    `update escrow_access set has_access = true`,
    `truncate escrow_parties`,
    `alter table streams disable trigger all`,
    `set session_replication_role = replica`,
  ]) {
    it(`may not: ${statement}`, async () => {
      const refused = await application.query(statement).then(
        () => 'allowed',
        (error: { code?: unknown }) => error.code,
      );
      expect(refused).to.equal(INSUFFICIENT_PRIVILEGE);
    });
  }

  it('cannot lead the triggers astray with objects of its own', async () => {
    const user = await newUser(application);
    const escrow_id = await newEscrow(application);
    const party = await newParty(application, escrow_id, user);
    await application.query(`
      create temporary table escrow_parties as select * from public.escrow_parties;
      create temporary table outbox (like public.users);
      set search_path = pg_temp, public`);
    const events = await appendedBy(database.pool, () =>
      application.query('delete from public.escrow_parties where id = $1', [party]),
    );
    await application.query('reset search_path; drop table pg_temp.escrow_parties, pg_temp.outbox');
    expect(events.map(({ topic, type }) => [topic, type])).to.deep.equal([
      [`user:${user}`, 'access:revoked'],
    ]);
  });

  it('finds no function of ours open to everybody', async () => {
    const { rows } = await database.pool.query(
      `select p.oid::regprocedure::text as name from pg_proc p
        where p.pronamespace = current_schema()::regnamespace and has_function_privilege('public', p.oid, 'execute')`,
    );
    expect(rows).to.deep.equal([]);
  });

  it('a DBA finds a comment on every table, column, function and trigger of the domain', async () => {
    const { rows } = await database.pool.query(
      `select c.relname || coalesce('.' || a.attname, '') as name
         from pg_class c
         left join lateral (select null::name as attname, 0 as attnum
                            union all select attname, attnum from pg_attribute where attrelid = c.oid and attnum > 0) a on true
        where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r' and c.relname not like 'outbox%'
          and col_description(c.oid, a.attnum) is null and (a.attnum > 0 or obj_description(c.oid, 'pg_class') is null)
       union all
       select tgname from pg_trigger where not tgisinternal and obj_description(oid, 'pg_trigger') is null
       union all
       select proname from pg_proc
        where pronamespace = current_schema()::regnamespace and obj_description(oid, 'pg_proc') is null`,
    );
    expect(rows).to.deep.equal([]);
  });
});
