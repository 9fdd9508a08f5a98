import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import pg from 'pg';
import { migrate } from '../../src/migrate.ts';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { grantService, SERVICE_ROLE } from '../support/service-role.ts';
import { append, column, failure, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

const DENIED = '42501';

describe("the service's own database role", () => {
  let database: TestDatabase;
  let owner: pg.Pool;
  let service: pg.Pool;

  beforeEach(async () => {
    database = await createTestDatabase();
    owner = database.pool;
    service = new pg.Pool({ connectionString: database.serviceUrl, max: 2 });
    service.on('error', () => {});
  });

  afterEach(async () => {
    await service.end();
    await database.drop();
  });

  const missing = () => column<string>(service, 'select outbox_missing_rights()');

  /** What the role may do with the objects of a schema, whatever gave it the right. */
  const held = () =>
    column<string>(
      owner,
      `select format('%s on %s', p.privilege, c.oid::regclass)
         from pg_class c, unnest('{select,insert,update,delete,truncate,references,trigger}'::text[]) p(privilege)
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v') and has_table_privilege($1, c.oid, p.privilege)
       union all
       select format('%s on %s', p.privilege, c.oid::regclass)
         from pg_class c, unnest('{select,usage,update}'::text[]) p(privilege)
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'S' and has_sequence_privilege($1, c.oid, p.privilege)
       union all
       select format('%s on %s.%s', p.privilege, c.oid::regclass, a.attname)
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped,
              unnest('{select,insert,update,references}'::text[]) p(privilege)
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')
          and has_column_privilege($1, c.oid, a.attnum, p.privilege) and not has_table_privilege($1, c.oid, p.privilege)
       union all
       select format('execute on %s', p.oid::regprocedure)
         from pg_proc p where p.pronamespace = 'public'::regnamespace and has_function_privilege($1, p.oid, 'execute')`,
      [SERVICE_ROLE],
    );

  it('may do what is on the list, and nothing else with anything of ours', async () => {
    const listed = await column<string>(
      owner,
      `select case when kind = 'function' then format('execute on %s', object::regprocedure)
                   else format('select on %s', object::regclass) || coalesce('.' || c.name, '') end
         from outbox_service_rights left join unnest(columns) c(name) on true`,
    );
    expect(listed).to.include.members([
      'select on outbox',
      'select on users.role',
      'execute on outbox_read_batch(bigint,integer)',
    ]);
    expect((await held()).toSorted()).to.deep.equal(listed.toSorted());
    expect(await missing()).to.deep.equal([]);
  });

  it('may make nothing, own nothing and become nobody', async () => {
    const { rows } = await owner.query(
      `select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls as mighty,
              (select count(*)::int from pg_auth_members where member = r.oid) as memberships,
              has_schema_privilege(oid, 'public', 'create') or has_database_privilege(oid, current_database(), 'create') as creates,
              (select count(*)::int from pg_shdepend where refobjid = r.oid and deptype = 'o') as owned
         from pg_roles r where rolname = $1`,
      [SERVICE_ROLE],
    );
    expect(rows).to.deep.equal([{ mighty: false, memberships: 0, creates: false, owned: 0 }]);
  });

  for (const statement of [
    `select outbox_append('user:x', 'access:granted', '{"topic":"escrow:x"}')`,
    `select outbox_publish('stream:x', 'stream:updated', '{}')`,
    `select outbox_new_epoch()`,
    `select outbox_grant_service('${SERVICE_ROLE}')`,
    `insert into outbox values (1, 'user:x', 'a:b', '{}', '1', now())`,
    `insert into outbox_publishing (topic, type, data) values ('user:x', 'access:granted', '{}')`,
    `update outbox set data = '{}'`,
    `delete from outbox`,
    `truncate outbox`,
    `update outbox_meta set epoch = gen_random_uuid()`,
    `select nextval('outbox_id_seq')`,
    `select setval('outbox_id_seq', 1)`,
    `select from escrow_access`,
    `update streams set payer = 'me'`,
    `insert into escrow_parties (escrow_id, user_id, role) select gen_random_uuid(), gen_random_uuid(), 'buyer'`,
    `update users set role = 'ADMIN'`,
    `select off_chain_memo from streams`,
    `select title from escrows`,
    `select description from escrows`,
    `select reason, evidence from disputes`,
    `select payload from notifications`,
    `create table mine (id int)`,
    `alter function outbox_head() owner to current_user`,
    `set session_replication_role = replica`,
  ]) {
    it(`may not: ${statement}`, async () => {
      // Where the tables are empty a right that is there would refuse nothing: what counts is the code.
      expect((await failure(service.query(statement))).code).to.be.oneOf([DENIED, '42809']);
    });
  }

  it('each right that it lacks is named, and given again by the same call', async () => {
    const rights = await column<string>(
      owner,
      `select format('%s%s on %s %s', case kind when 'function' then 'EXECUTE' else 'SELECT' end,
                     case when columns <> '{}' then ' (' || array_to_string(columns, ', ') || ')' end, kind, object)
         from outbox_service_rights where object not in ('outbox_missing_rights()', 'outbox_service_rights')`,
    );
    expect(rights.length).to.be.above(20);
    for (const right of rights) {
      await owner.query(`revoke ${right} from ${SERVICE_ROLE}`);
      expect(await missing()).to.deep.equal([right]);
      await owner.query(`grant ${right} to ${SERVICE_ROLE}`);
    }
    await owner.query(`revoke select (role) on users from ${SERVICE_ROLE}`);
    expect(await missing()).to.deep.equal(['SELECT (id, wallet_address, role, is_active) on table users']);
    await owner.query(`select outbox_grant_service('${SERVICE_ROLE}')`);
    expect(await missing()).to.deep.equal([]);
  });

  it('a listed object that does not exist is missing', async () => {
    await owner.query(
      `insert into outbox_service_rights values ('function', 'my_topics(text)', '{}'), ('table', 'my_table', '{}'), ('table', 'users_of_mine', '{id}')`,
    );
    expect(await missing()).to.deep.equal([
      'SELECT on table my_table',
      'SELECT (id) on table users_of_mine',
      'EXECUTE on function my_topics(text)',
    ]);
    await owner.query(`delete from outbox_service_rights where object like 'my%' or object like '%mine'`);
    await owner.query(
      `update outbox_service_rights set columns = columns || '{shoe_size}' where object = 'users'`,
    );
    expect(await missing()).to.have.length(1);
  });

  describe('a service that may not', () => {
    const refusal = async () => (await failure(startService(database.url))).message;

    it('execute a function does not start, and says which and what to do', async () => {
      await owner.query(
        `revoke execute on function outbox_head(), outbox_add_partitions(int) from ${SERVICE_ROLE}`,
      );
      expect(await refusal()).to.equal(
        `the database role "${SERVICE_ROLE}" may not do what the service needs: ` +
          'EXECUTE on function outbox_add_partitions(integer); EXECUTE on function outbox_head(). ' +
          `As the owner of the outbox: select outbox_grant_service('${SERVICE_ROLE}')`,
      );
    });

    it('do anything does not start, and says what to do', async () => {
      await owner.query(`drop owned by ${SERVICE_ROLE}`);
      expect(await refusal())
        .to.include('permission denied for function outbox_missing_rights')
        .and.include(`select outbox_grant_service('${SERVICE_ROLE}')`);
    });

    it('use the schema does not start', async () => {
      await owner.query('revoke usage on schema public from public');
      expect(await refusal()).to.match(/^no schema named by the search_path .* or its role may not use it/);
    });

    it('read the sequence any more, while it runs, is not ready: it never waits silently', async () => {
      const running = await startService(database.url, { SAFETY_POLL_MS: '50' });
      const ready = async () => (await fetch(`${running.url}/readyz`)).status;
      try {
        expect(await ready()).to.equal(200);
        await owner.query(`revoke select on sequence outbox_id_seq from ${SERVICE_ROLE}`);
        await waitFor(async () => (await ready()) === 503, { what: 'the service to be unavailable' });
        expect((await failure(service.query('select outbox_head()'))).message).to.equal(
          'permission denied for sequence outbox_id_seq',
        );
        await owner.query(`grant select on sequence outbox_id_seq to ${SERVICE_ROLE}`);
        await waitFor(async () => (await ready()) === 200, {
          what: 'the service to be back',
          timeoutMs: 10_000,
        });
      } finally {
        await running.stop();
      }
    });
  });

  describe('is not given', () => {
    it("to a superuser, the owner, or a member of the owner's role", async () => {
      const name = await scalar<string>(owner, 'select current_user');
      expect((await failure(owner.query('select outbox_grant_service($1)', [name]))).message).to.equal(
        `role "${name}" can do all that the owner of the outbox can`,
      );
      const member = `${SERVICE_ROLE}_member`;
      await owner.query(`create role ${member} in role ${name}`);
      const { message } = await failure(owner.query('select outbox_grant_service($1)', [member]));
      await owner.query(`drop role ${member}`);
      expect(message).to.equal(`role "${member}" can do all that the owner of the outbox can`);
    });

    it('while everybody may create objects where the functions that act as their owner look for theirs', async () => {
      await owner.query('grant create on schema public to public');
      expect(
        (await failure(owner.query('select outbox_grant_service($1)', [SERVICE_ROLE]))).message,
      ).to.equal('everybody may create objects in schema "public"');
    });

    it('to nobody: the script wants a name', async () => {
      const script = await readFile(new URL('../../scripts/service-role.sql', import.meta.url), 'utf8');
      expect((await failure(owner.query(script))).message).to.match(/^which role\?/);
    });
  });

  it('does for an outbox without our business tables, in a schema and a database that are closed to others', async () => {
    const empty = await createEmptyDatabase();
    try {
      const url = new URL(empty.url);
      url.searchParams.set('options', '-c search_path=live');
      await empty.pool.query(
        `create schema live; revoke all on database ${url.pathname.slice(1)} from public`,
      );
      await migrate({ connectionString: url.href, set: 'outbox' });
      await empty.pool.query(
        `create function live.visible(subject text, wallet text, role text) returns setof text language sql stable as $$ select 'user:' || subject $$`,
      );
      await grantService(url.href);
      const running = await startService(url.href, {
        MIGRATE: 'outbox',
        AUTHORIZE_FUNCTION: 'live.visible',
      });
      expect(running.condition).to.equal('ready');
      const writer = new pg.Pool({ connectionString: url.href, max: 1 });
      const id = Number(await append(writer));
      await waitFor(() => running.hub.cursor === id, { what: 'the event' });
      await writer.end();
      await running.stop();
    } finally {
      await empty.drop();
    }
  });
});
