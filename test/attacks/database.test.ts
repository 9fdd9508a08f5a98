import { expect } from 'chai';
import pg from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { asService } from '../support/service-role.ts';
import { append, column, failure, openSession, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

const DENIED = '42501';
const CHECK_VIOLATION = '23514';
const INVALID_PARAMETER = '22023';

/** A routine of ours, and a call of it with nothing but nulls. */
interface Routine {
  readonly name: string;
  readonly call: string;
  readonly isTrigger: boolean;
}

describe('the database, attacked', () => {
  let database: TestDatabase;
  let owner: pg.Pool;
  let stranger: pg.Client;
  let publisher: pg.Client;
  const roles = { stranger: `stranger_${process.pid}`, publisher: `publisher_${process.pid}` };

  async function logIn(role: string): Promise<pg.Client> {
    await owner.query(`create role ${role} login password 'secret'`);
    const url = new URL(database.url);
    url.username = role;
    url.password = 'secret';
    const client = new pg.Client({ connectionString: url.href, application_name: role });
    await client.connect();
    return client;
  }

  before(async () => {
    database = await createTestDatabase();
    owner = database.pool;
    stranger = await logIn(roles.stranger);
    publisher = await logIn(roles.publisher);
    await owner.query(`grant execute on function outbox_publish(text, text, json) to ${roles.publisher}`);
    await append(owner);
  });

  after(async () => {
    await stranger.end();
    await publisher.end();
    await owner.query(`drop owned by ${roles.publisher}; drop role ${roles.stranger}, ${roles.publisher}`);
    await database.drop();
  });

  async function routines(): Promise<Routine[]> {
    const { rows } = await owner.query<Routine>(
      `select p.oid::regprocedure::text as name, p.prorettype = 'trigger'::regtype as "isTrigger",
              -- Through a subquery: a strict function of a constant null is folded away before anybody asks for the right to it.
              format('select %I(%s) from (select %s offset 0) a', p.proname,
                     (select string_agg('a.p' || a.place, ', ' order by a.place)
                        from unnest(p.proargtypes::oid[]) with ordinality a(type, place)),
                     (select string_agg(format('null::%s as p%s', a.type::regtype, a.place), ', ' order by a.place)
                        from unnest(p.proargtypes::oid[]) with ordinality a(type, place))) as call
         from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prokind in ('f', 'w') order by 1`,
    );
    return rows;
  }

  /** What a role can execute of ours, tried. */
  async function executable(client: pg.Client): Promise<string[]> {
    const open: string[] = [];
    await client.query(
      'create temp table if not exists bait (number bigint, topic text, type text, data json)',
    );
    for (const { name, call, isTrigger } of await routines()) {
      const use = isTrigger
        ? `create trigger t after insert on bait for each row execute function ${name}`
        : call;
      const { code } = await failure(client.query(use)).catch(() => ({ code: 'none' }));
      if (code !== DENIED) open.push(name);
    }
    return open;
  }

  describe('by a role with nothing but CONNECT', () => {
    it('executes none of our functions, called or as a trigger of its own', async () => {
      expect((await routines()).length).to.be.above(30);
      expect(await executable(stranger)).to.deep.equal([]);
    });

    it('a function that a migration forgot to close would be found', async () => {
      await owner.query('create function forgotten() returns int language sql return 1');
      const open = await executable(stranger);
      await owner.query('drop function forgotten()');
      expect(open).to.deep.equal(['forgotten()']);
    });

    it('learns of no event: a ring says that something happened, and nothing else', async () => {
      const rings: (string | undefined)[] = [];
      stranger.on('notification', ({ channel, payload }) => rings.push(`${channel}:${payload}`));
      await stranger.query('listen outbox');
      const sleeper = await openSession(owner);
      await sleeper.query('select pg_advisory_lock_shared(21336::bigint << 48)');
      await append(owner, '{"secret":1}', 'user:secret');
      await waitFor(() => rings.length > 0, { what: 'the ring' });
      sleeper.end();
      await stranger.query('unlisten *');
      expect([...new Set(rings)]).to.deep.equal(['outbox:']);
    });

    it('reads no sequence, no row, and no statistics of rows', async () => {
      for (const statement of [
        'select from outbox',
        'table outbox_default',
        'table outbox_recent',
        'table outbox_partitions',
        'table outbox_stats',
        'select last_value from outbox_id_seq',
        'copy outbox to stdout',
        'explain analyze select from outbox',
      ])
        expect((await failure(stranger.query(statement))).code, statement).to.equal(DENIED);
      expect(
        await column(stranger, "select tablename from pg_stats where tablename ~ '^outbox'"),
      ).to.deep.equal([]);
    });
  });

  describe('by a role that may publish', () => {
    const publish = (topic: string, type: string) =>
      failure(publisher.query('select outbox_publish($1, $2, $3)', [topic, type, '{"topic":"escrow:x"}']));

    it('executes outbox_publish and nothing else', async () => {
      expect(await executable(publisher)).to.deep.equal(['outbox_publish(text,text,json)']);
    });

    for (const type of ['access:granted', 'access:revoked', 'access:anything'])
      it(`cannot forge ${type}`, async () => {
        expect((await publish('user:x', type)).code).to.equal(DENIED);
      });

    for (const type of [
      'ACCESS:granted',
      ' access:granted',
      'access:granted ',
      'access:granted\n',
      'access:granted\r\ndata: {}',
      'session',
      'reset',
      'disconnect',
      'caught-up',
      'stream:updated\n',
      'stream:updated\r',
      'stream:updated\u2028',
      'a:b\nid: 999999',
    ])
      it(`cannot send the type ${JSON.stringify(type)}`, async () => {
        expect((await publish('user:x', type)).code).to.equal(INVALID_PARAMETER);
      });

    for (const topic of [
      'user:x\n',
      'user:x\r\nid: 1',
      'user:\n',
      'user',
      'user:',
      'USER:x',
      'user:x y',
      'user:é',
    ])
      it(`cannot send on the topic ${JSON.stringify(topic)}`, async () => {
        expect((await publish(topic, 'stream:updated')).code).to.equal(INVALID_PARAMETER);
      });

    it('cannot lead the functions astray with objects of its own', async () => {
      await publisher.query(`
        create temp table outbox_publishing (number bigint, topic text, type text, data json);
        create temp table outbox (like pg_temp.outbox_publishing);
        create function pg_temp.outbox_append(text, text, json) returns bigint language sql return 1;
        set search_path = pg_temp, public`);
      const start = await scalar<number>(owner, 'select outbox_head()');
      await publisher.query(`select public.outbox_publish('user:x', 'test:event', '{}')`);
      await publisher.query('reset search_path; drop table pg_temp.outbox_publishing, pg_temp.outbox');
      expect(await column(owner, 'select topic from outbox_read($1)', [start])).to.deep.equal(['user:x']);
    });
  });

  it('by the service itself: it cannot forge an event of any kind', async () => {
    const service = new pg.Client({ connectionString: asService(database.url) });
    await service.connect();
    const executes = await executable(service);
    await service.end();
    expect(executes).to.include('outbox_head()');
    for (const name of executes)
      expect(name).to.not.match(/append|publish\(|settle\(|_event\(|_changed\(|at_commit/);
  });

  it('by its owner: a type or topic that could break a line is refused by outbox_append() itself', async () => {
    for (const [topic, type] of [
      ['user:x\n', 'a:b'],
      ['user:x', 'a:b\n'],
      ['user:x', 'a:b\r'],
      ['user:x\u2028', 'a:b'],
      ['user:x', 'session'],
    ])
      expect(
        (await failure(owner.query("select outbox_append($1, $2, '{}')", [topic, type]))).code,
        JSON.stringify([topic, type]),
      ).to.equal(CHECK_VIOLATION);
  });

  it('by the application: a wallet address that could break a line is refused where it is written', async () => {
    for (const wallet of ['0x1\n', 'a\r\nid: 1', 'a b', ''])
      expect(
        (await failure(owner.query('insert into users (wallet_address) values ($1)', [wallet]))).code,
        JSON.stringify(wallet),
      ).to.equal(CHECK_VIOLATION);
  });
});
