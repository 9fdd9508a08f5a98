import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import type pg from 'pg';
import { runVerify } from '../../src/cli/verify.ts';
import { createPool } from '../../src/database.ts';
import { migrate } from '../../src/migrate.ts';
import type { Service } from '../../src/service.ts';
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { grantService, SERVICE_ROLE } from '../support/service-role.ts';
import { scalar } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { JWT_SECRET, mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';

const page = await readFile(new URL('../../docs/adopting.md', import.meta.url), 'utf8');
const [tables, ...rest] = [...page.matchAll(/```sql\n([\s\S]*?)```/g)].map(([, sql = '']) => sql);
const GRANT = rest.find((sql) => sql.startsWith('grant')) ?? '';

const [ANA, BEN, CHI, ROOT] = ['1', '2', '3', '9'] as const;

describe('docs/adopting.md: tables that are not ours', () => {
  let database: TestDatabase;
  let url: string;
  /** The application's connection. */
  let app: pg.Pool;
  let service: Service;
  const clients: SseClient[] = [];

  before(async () => {
    database = await createEmptyDatabase();
    await database.pool.query(tables ?? '');
    await database.pool.query('create schema wire');
    url = `${database.url}?options=-csearch_path%3Dwire`;
    await migrate({ connectionString: url, set: 'outbox' });
    await grantService(url);
    app = createPool(database.url, { max: 4, applicationName: 'app' });
  });

  after(async () => {
    await service?.stop();
    await app?.end();
    await database?.drop();
  });

  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
  });

  const environment = { MIGRATE: 'outbox', AUTHORIZE_FUNCTION: 'app.visible_topics' };

  async function connect(sub: string, path = '/v1/events', headers: Record<string, string> = {}) {
    const client = await SseClient.open(`${service.url}${path}`, mintToken({ sub }), headers);
    clients.push(client);
    return client;
  }

  const status = async (sub: string, path: string, token = mintToken({ sub })) => {
    const response = await fetch(`${service.url}${path}`, {
      headers: { authorization: `Bearer ${token}` },
    });
    return { status: response.status, body: await response.text() };
  };

  it('does not start without the function, with a volatile one, or with another signature', async () => {
    const refused = (variables: Record<string, string>) =>
      startService(url, variables).then(
        async (started) => {
          await started.stop();
          return 'started';
        },
        (error: Error) => error.message,
      );
    expect(await refused({ MIGRATE: 'outbox' })).to.match(/needs AUTHORIZE_FUNCTION/);
    expect(await refused(environment)).to.match(/"app"."visible_topics" does not exist/);
    await database.pool.query(
      `create function app.visible_topics(subject text) returns text language sql stable return subject`,
    );
    expect(await refused(environment)).to.match(/must be \(text, text, text\) returns setof text/);
    await database.pool.query(`drop function app.visible_topics(text);
      create function app.visible_topics(subject text, wallet text, role text) returns setof text language sql as 'select subject'`);
    expect(await refused(environment)).to.match(/is volatile/);
    await database.pool.query('drop function app.visible_topics(text, text, text)');
  });

  it('runs as written', async () => {
    for (const sql of rest.filter((it) => it !== GRANT)) await database.pool.query(sql);
    await app.query(
      `insert into app."User" (id, email, role) values (1, 'ana@x', 'USER'), (2, 'ben@x', 'USER'), (3, 'chi@x', 'USER'), (9, 'root@x', 'ADMIN')`,
    );
    const failed = await startService(url, environment).catch((error: Error) => error);
    expect(failed)
      .to.have.property('message')
      .that.matches(/may not be called by the role of DATABASE_URL/);
    await database.pool.query(GRANT.replaceAll('settlewire_service', SERVICE_ROLE));
    service = await startService(url, environment);
  });

  it('a new row is granted to its people and announced to them, and to administrators; nobody else hears of it', async () => {
    const [ana, chi, root] = await Promise.all([connect(ANA), connect(CHI), connect(ROOT)]);
    await Promise.all([ana.caughtUp(), chi.caughtUp(), root.caughtUp()]);
    await app.query(
      `insert into app."PaymentStream" (id, "payerId", "recipientId", status, "ratePerSecond", note) values (7, 1, 2, 'active', 0.5, 'secret')`,
    );
    await ana.received(2);
    expect(ana.events.map(({ type }) => type)).to.deep.equal(['access:granted', 'stream:updated']);
    expect(ana.events[1]?.data).to.deep.equal({
      streamId: '7',
      status: 'active',
      ratePerSecond: '0.500000000',
    });
    await waitFor(() => root.events.some(({ type }) => type === 'stream:updated'), {
      what: 'the administrator',
    });
    expect(chi.events).to.deep.equal([]);
  });

  it('one topic: its people are let in, others get the same 403 as for what does not exist', async () => {
    await (await connect(ANA, '/v1/events?topic=stream:7')).caughtUp();
    await (await connect(ROOT, '/v1/events?topic=stream:7')).caughtUp();
    const [foreign, missing] = await Promise.all([
      status(CHI, '/v1/events?topic=stream:7'),
      status(CHI, '/v1/events?topic=stream:8'),
    ]);
    expect(foreign.status).to.equal(403);
    expect(foreign).to.deep.equal(missing);
    expect((await status('77', '/v1/events')).status, 'a user who does not exist').to.equal(403);
    expect((await status(ANA, '/v1/snapshot?topic=stream:7')).status).to.equal(404);
  });

  it('settlewire verify: exact, with the token of somebody who may come in, and says that it takes one', async () => {
    const settings = { ...environment, DATABASE_URL: url, JWT_SECRET };
    const args = ['--url', service.url, '--seconds', '1', '--subscribers', '2'];
    let shown = '';
    const print = (text: string): void => {
      shown += text;
    };
    expect(await runVerify([...args, '--token', mintToken({ sub: ANA })], settings, print)).to.equal(true);
    expect(shown).to.match(/exact/);
    const refused = await runVerify(args, settings, print).catch((error: Error) => error);
    expect(refused)
      .to.have.property('message')
      .that.matches(/403 forbidden: .* With AUTHORIZE_FUNCTION give the --token/);
  });

  it('who loses a row gets nothing after its place, live and replayed; who gains it gets nothing before', async () => {
    const cursor = service.hub.cursor;
    const [ben, chi] = await Promise.all([connect(BEN), connect(CHI)]);
    await Promise.all([ben.caughtUp(), chi.caughtUp()]);
    await app.query(`update app."PaymentStream" set status = 'paused' where id = 7`);
    await app.query(`update app."PaymentStream" set "recipientId" = 3 where id = 7`);
    await app.query(`update app."PaymentStream" set status = 'active' where id = 7`);
    await chi.received(3);
    const seen = (client: SseClient) =>
      client.events.map(({ type, data }) => (type === 'stream:updated' ? data['status'] : type));
    expect(seen(chi)).to.deep.equal(['access:granted', 'paused', 'active']);
    await ben.received(2);
    expect(seen(ben)).to.deep.equal(['paused', 'access:revoked']);
    const [again, before] = await Promise.all(
      [BEN, CHI].map(async (who) =>
        (await connect(who, '/v1/events', { 'Last-Event-ID': String(cursor) })).caughtUp(),
      ),
    );
    expect(again && seen(again)).to.deep.equal(['paused', 'access:revoked']);
    expect(before && seen(before)).to.deep.equal(['access:granted', 'paused', 'active']);
  });

  it('a user who is deactivated is signed out, and not let in again', async () => {
    const chi = await (await connect(CHI)).caughtUp();
    await app.query(`update app."User" set "isActive" = false where id = 3`);
    await chi.untilEnded();
    expect(chi.messages.at(-1)?.data).to.have.property('reason', 'session_revoked');
    expect((await status(CHI, '/v1/events')).status).to.equal(403);
  });

  it('a revoked credential is refused, and its stream ends', async () => {
    const token = mintToken({ sub: BEN });
    const ben = await (await connect(BEN)).caughtUp();
    await database.pool.query(`set search_path = wire; select outbox_revoke('2'); reset search_path`);
    await ben.untilEnded();
    expect(ben.messages.at(-1)?.data).to.have.property('reason', 'session_revoked');
    expect((await status(BEN, '/v1/cursor', token)).status).to.equal(401);
    expect((await status(ANA, '/v1/cursor')).status).to.equal(200);
  });

  it('traps: altering a changed table fails; a row that moves between partitions is a loss and a gain', async () => {
    const client = await app.connect();
    try {
      await client.query(`begin; update app."PaymentStream" set status = 'ended'`);
      const failed = await client
        .query(`alter table app."PaymentStream" add x int`)
        .catch((error: Error) => error);
      expect(failed)
        .to.have.property('message')
        .that.matches(/pending trigger events/);
      await client.query('rollback');
    } finally {
      client.release();
    }
    await app.query(`
      create table app.parted (id bigint, "payerId" bigint, "recipientId" bigint, status text, "ratePerSecond" numeric) partition by list (status);
      create table app.parted_active partition of app.parted for values in ('active');
      create table app.parted_ended partition of app.parted for values in ('ended');
      create constraint trigger access_stream after insert or update or delete on app.parted
        deferrable initially deferred for each row execute function app.stream_access();
      create constraint trigger stream_changed after insert or update on app.parted
        deferrable initially deferred for each row execute function app.stream_changed();
      insert into app.parted values (20, 1, 1, 'active', 1)`);
    const before = await scalar<number>(database.pool, 'select max(id) from wire.outbox');
    await app.query(`update app.parted set status = 'ended'`);
    const { rows } = await database.pool.query<{ type: string }>(
      'select type from wire.outbox where id > $1 order by id',
      [before],
    );
    expect(rows.map(({ type }) => type)).to.have.members([
      'access:revoked',
      'access:granted',
      'stream:updated',
    ]);
  });
});
