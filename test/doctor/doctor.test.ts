import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { parseKeylessConfig } from '../../src/config.ts';
import { type DoctorOptions, examine } from '../../src/doctor/doctor.ts';
import type { Finding } from '../../src/doctor/finding.ts';
import { migrate } from '../../src/migrate.ts';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { needPrograms } from '../support/programs.ts';
import { startService } from '../support/service.ts';
import { append, openSession, type Session } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

/** What it says of a database. */
async function look(
  database: Pick<TestDatabase, 'url'>,
  options: Partial<DoctorOptions> = {},
  environment: Record<string, string> = {},
): Promise<Finding[]> {
  const config = parseKeylessConfig({ DATABASE_URL: database.url, MAX_CONNECTIONS: '10', ...environment });
  const findings: Finding[] = [];
  for await (const finding of examine({
    config,
    databaseUrl: config.databaseUrl,
    urls: [],
    settleMs: 30,
    patienceMs: 400,
    ...options,
  }))
    findings.push(finding);
  for (const { grade, advice } of findings) expect(advice === undefined).to.equal(grade === 'ok');
  return findings;
}

/** All of one check. */
const of = (check: string, findings: readonly Finding[]): Finding[] =>
  findings.filter((finding) => finding.check === check);
const gradesOf = (check: string, findings: readonly Finding[]): string[] =>
  of(check, findings).map(({ grade }) => grade);
const notOk = (findings: readonly Finding[]): string[] =>
  findings.filter(({ grade }) => grade !== 'ok').map(({ check, says }) => `${check}: ${says}`);

describe('the doctor, on real databases', function () {
  this.timeout(30_000);
  let database: TestDatabase;
  const others: TestDatabase[] = [];
  const sessions: Session[] = [];

  before(async () => {
    database = await createTestDatabase();
    await settle(database);
  });

  afterEach(async () => {
    for (const session of sessions.splice(0)) session.end();
    await Promise.all(others.splice(0).map((other) => other.drop()));
  });

  after(() => database?.drop());

  /** The one setting that a fresh Postgres has as we do not like it. */
  function settle({ url, pool }: TestDatabase): Promise<unknown> {
    return pool.query(
      `alter database ${new URL(url).pathname.slice(1)} set idle_in_transaction_session_timeout = '60s'`,
    );
  }

  async function another(make: () => Promise<TestDatabase> = createTestDatabase): Promise<TestDatabase> {
    const made = await make();
    others.push(made);
    await settle(made);
    return made;
  }

  async function session(): Promise<Session> {
    const opened = await openSession(database.pool);
    sessions.push(opened);
    return opened;
  }

  it('a healthy one, with an instance: everything is ok, and everything was looked at', async () => {
    const service = await startService(database.url);
    try {
      const findings = await look(database, { urls: [service.url] });
      expect(notOk(findings)).to.deep.equal([]);
      expect(findings.map(({ check }) => check)).to.deep.equal([
        'open files',
        'instance',
        'database',
        'version',
        'clock',
        'connections',
        'notify queue',
        'settings',
        'listen',
        'migrations',
        'rights',
        'epoch',
        'triggers',
        'partitions',
        'default partition',
        'retention',
        'horizon',
        'instances',
      ]);
      expect(of('instances', findings)[0]?.says).to.equal('1 connected');
    } finally {
      await service.stop();
    }
    expect(of('instances', await look(database))[0]?.says).to.equal('none is connected');
  });

  it('one that cannot be reached: why and what to do, nothing of the password, and nothing else', async () => {
    const { port } = new URL(database.url);
    const cases: [string, RegExp, RegExp][] = [
      [
        'postgres://who:secret@127.0.0.1:1/none',
        /^127\.0\.0\.1:1\/none cannot be reached: .*ECONNREFUSED/,
        /running/,
      ],
      [`postgres://who:secret@127.0.0.1:${port}/none`, /cannot be reached: .+/, /.+/],
      [`${database.url}_none`, /does not exist/, /create database/],
    ];
    for (const [url, says, advice] of cases) {
      const findings = await look({ url });
      expect(findings.map(({ check, grade }) => `${check} ${grade}`)).to.deep.equal([
        'open files ok',
        'database fail',
      ]);
      expect(findings[1]?.says).to.match(says).and.not.include('secret');
      expect(findings[1]?.advice).to.match(advice);
    }
  });

  it('migrations that are missing: names them, and does not look at what they make', async () => {
    const empty = await another(createEmptyDatabase);
    const findings = await look(empty);
    expect(gradesOf('migrations', findings)).to.deep.equal(['fail']);
    expect(of('migrations', findings)[0]).to.deep.include({ advice: 'settlewire migrate' });
    expect(findings.at(-1)?.check).to.equal('migrations');
    await migrate({ connectionString: empty.url, set: 'outbox' });
    const half = await look(empty);
    expect(of('migrations', half)[0]?.says).to.match(/^to be applied: 0010_domain_/);
    expect(of('migrations', half)[0]?.advice).to.match(/with tables of your own set MIGRATE=outbox$/);
    await empty.pool.query("update outbox_migration_checksum set sha256 = 'x'");
    expect(of('migrations', await look(empty))[0]?.says).to.match(/has been edited since it was applied/);
  });

  it("with tables of one's own: whether any trigger publishes", async () => {
    const own = await another(createEmptyDatabase);
    await migrate({ connectionString: own.url, set: 'outbox' });
    const alone = await look(own, {}, { MIGRATE: 'outbox' });
    expect(notOk(alone)).to.have.length(1);
    expect(of('writers', alone)[0]).to.deep.include({ grade: 'warn', advice: 'see docs/adopting.md' });
    await own.pool.query(`
      create table orders (id bigint primary key);
      create function order_event() returns trigger language plpgsql as
        $$ begin perform outbox_publish('order:' || new.id, 'order:created', '{}'); return null; end $$;
      create constraint trigger order_event after insert on orders deferrable initially deferred
        for each row execute function order_event()`);
    const found = await look(own, {}, { MIGRATE: 'outbox' });
    expect(notOk(found)).to.deep.equal([]);
    expect(of('writers', found)[0]?.says).to.equal('triggers that publish: on orders');
    await own.pool.query('alter table orders disable trigger order_event');
    const off = notOk(await look(own, {}, { MIGRATE: 'outbox' }));
    expect(off).to.deep.equal(['writers: order_event on orders is switched off: its changes make no events']);
  });

  it('triggers that are off, gone or changed: each is named', async () => {
    const { pool, ...broken } = await another();
    await pool.query(`
      alter table streams disable trigger event_stream_updated;
      alter table users enable replica trigger access_user_updated;
      alter table notifications enable always trigger event_notification_new;
      drop trigger event_settle_finished on settlements;
      drop trigger event_escrow_status_changed on escrows;
      create trigger event_escrow_status_changed after update on escrows for each row execute function escrow_status_changed_event()`);
    const findings = of('triggers', await look(broken));
    expect(findings.map(({ grade, says }) => `${grade} ${says.split(':')[0]}`)).to.have.members([
      'fail event_stream_updated on streams is switched off',
      'fail access_user_updated on users is switched off',
      'fail event_settle_finished on settlements is missing',
      'warn event_escrow_status_changed on escrows is not as the migrations make it',
    ]);
    expect(findings.find(({ says }) => says.includes('stream_updated'))?.advice).to.match(
      /^alter table streams enable trigger event_stream_updated;/,
    );
  });

  it('finds the triggers of a database whose schema has another name', async () => {
    const elsewhere = await another(createEmptyDatabase);
    await elsewhere.pool.query('create schema "Pay ments"');
    const url = `${elsewhere.url}?options=-c%20search_path%3D%22Pay%5C%20ments%22`;
    await migrate({ connectionString: url, set: 'all' });
    expect(notOk(await look({ url }))).to.deep.equal([]);
  });

  it('partitions that run out, events that none was ready for, and an oldest one that should have gone', async () => {
    const late = await another();
    const { pool } = late;
    await append(pool);
    await pool.query("update outbox set created_at = now() - interval '200 hours'");
    await pool.query("select setval('outbox_id_seq', 4500000)");
    await append(pool);
    const before = await look(late);
    expect(of('partitions', before)[0]?.says).to.equal('none ahead, 499998 ids are left');
    expect(gradesOf('default partition', before)).to.deep.equal(['ok']);
    expect(gradesOf('retention', before)).to.deep.equal(['warn']);
    expect(gradesOf('retention', await look(late, {}, { RETENTION_HOURS: '200' }))).to.deep.equal(['ok']);
    await pool.query("select setval('outbox_id_seq', 6000000)");
    await append(pool);
    const after = await look(late);
    expect(gradesOf('partitions', after)).to.deep.equal(['fail']);
    expect(of('default partition', after)[0]?.says).to.match(/^holds 1 events/);
    await pool.query('select outbox_drop_partitions(now()), outbox_add_partitions()');
    expect(gradesOf('partitions', await look(late)), 'after what it advises').to.deep.equal(['ok']);
  });

  describe('who holds back the horizon', () => {
    it('a session that has appended and idles: its pid, its state, and how to end it', async () => {
      const holder = await session();
      await holder.query("begin; set local application_name = 'payroll'");
      await append(holder);
      const [finding] = of('horizon', await look(database));
      expect(finding?.grade).to.equal('fail');
      expect(finding?.says).to.match(
        new RegExp(
          `^held at \\d+ by ${holder.pid} \\(payroll, role \\w+\\), idle in transaction: no client gets`,
        ),
      );
      expect(finding?.advice).to.include(`pg_terminate_backend(${holder.pid})`);
      await holder.query('rollback');
      expect(gradesOf('horizon', await look(database)), 'once it has ended').to.deep.equal(['ok']);
    });

    it('one that is busy is only worth a warning', async () => {
      const holder = await session();
      await holder.query('begin');
      await append(holder);
      // Nobody waits for it to end: it is cancelled.
      const busy = holder.query('select pg_sleep(20)').catch(() => {});
      expect(gradesOf('horizon', await look(database))).to.deep.equal(['warn']);
      await database.pool.query('select pg_cancel_backend($1)', [holder.pid]);
      await busy;
      await holder.query('rollback');
    });

    it('one that has ended by the second look is nobody', async () => {
      const writer = await session();
      await writer.query('begin');
      await append(writer);
      const findings = look(database, { settleMs: 3000 });
      await waitFor(
        async () => {
          const { rowCount } = await database.pool.query(
            "select from pg_stat_activity where application_name = 'settlewire doctor' and query like '%from outbox_inflight%' and state = 'idle' and datname = current_database()",
          );
          return rowCount === 1;
        },
        { what: 'the first look' },
      );
      await writer.query('commit');
      expect(gradesOf('horizon', await findings)).to.deep.equal(['ok']);
    });

    it('a prepared transaction: named, and how to end it', async () => {
      const preparer = await session();
      const gid = `doctor ${process.pid}`;
      await preparer.query('begin');
      await append(preparer);
      await preparer.query(`prepare transaction '${gid}'`);
      try {
        const findings = await look(database);
        expect(of('prepared', findings)[0]?.says).to.include(gid);
        expect(of('horizon', findings)[0]?.says).to.match(/^a prepared transaction holds it at \d+/);
        expect(gradesOf('horizon', findings)).to.deep.equal(['fail']);
      } finally {
        await database.pool.query(`rollback prepared '${gid}'`);
      }
    });
  });

  it('settings of the role or the database that hurt', async () => {
    const hurt = await another();
    const name = new URL(hurt.url).pathname.slice(1);
    const settings: [string, string, string][] = [
      ['statement_timeout', "'2s'", 'warn'],
      ['synchronous_commit', 'off', 'warn'],
      ['default_transaction_isolation', "'repeatable read'", 'fail'],
      ['default_transaction_read_only', 'on', 'fail'],
      ['session_replication_role', 'replica', 'fail'],
    ];
    for (const [setting, value] of settings)
      await hurt.pool.query(`alter database ${name} set ${setting} = ${value}`);
    const findings = of('setting', await look(hurt));
    for (const [setting, , grade] of settings)
      expect(
        findings.filter(({ says }) => says.startsWith(setting)).map((finding) => finding.grade)[0],
        setting,
      ).to.equal(grade);
    expect(findings.map(({ says }) => says)).to.include(
      `session_replication_role is replica for every role in database ${name}: what they change makes no events`,
    );
  });

  it('a clock that is wrong', async () => {
    const away = async (ms: number) =>
      gradesOf('clock', await look(database, { now: () => Date.now() + ms }));
    expect(await away(60_000)).to.deep.equal(['fail']);
    expect(await away(-60_000)).to.deep.equal(['fail']);
    expect(await away(-3000)).to.deep.equal(['warn']);
  });

  it('a database that was restored and that no instance has looked at since', async () => {
    const restored = await another();
    await restored.pool.query('update outbox_meta set timeline = timeline + 1');
    expect(gradesOf('epoch', await look(restored))).to.deep.equal(['warn']);
  });

  it('a role that may not read the outbox', async () => {
    const role = `doctor_${process.pid}`;
    await database.pool.query(`create role ${role} login password 'p'`);
    try {
      const url = new URL(database.url);
      url.username = role;
      url.password = 'p';
      const findings = await look({ url: url.href });
      const broken = notOk(findings).join('\n');
      expect(broken).to.match(new RegExp(`migrations: permission denied|rights: role ${role} has not all`));
      await database.pool.query(
        `grant select on outbox_migration, outbox_migration_checksum to ${role}; grant select on outbox to ${role}`,
      );
      const granted = await look({ url: url.href });
      const [rights] = of('rights', granted);
      expect(rights?.grade).to.equal('fail');
      expect(rights?.says).to.equal(
        `role ${role} has not all that a service needs: permission denied for function outbox_missing_rights`,
      );
      expect(rights?.advice).to.include(`select outbox_grant_service('${role}')`);
      expect(gradesOf('partitions', granted), 'what it may not look at').to.deep.equal(['fail']);
    } finally {
      await database.pool.query(`drop owned by ${role}; drop role ${role}`);
    }
  });

  describe('the listening connection', () => {
    it('of another database', async () => {
      const other = await another();
      const findings = await look(database, {}, { LISTEN_DATABASE_URL: other.url });
      expect(of('listen', findings)[0]?.says).to.match(/is another database than DATABASE_URL$/);
    });

    for (const mode of ['transaction', 'session'] as const) {
      it(`through a PgBouncer in ${mode} mode`, async function () {
        needPrograms(this, 'pgbouncer');
        const bouncer = await startPgBouncer(database.url, mode);
        try {
          const [listen] = of('listen', await look(database, {}, { LISTEN_DATABASE_URL: bouncer.url }));
          expect(listen?.says).to.include('through a pooler');
          expect(listen?.advice).to.include('LISTEN_DATABASE_URL');
          // Whether transaction mode hands a NOTIFY on is its affair; that it cannot be relied on is ours.
          expect(listen?.grade).to.be.oneOf(mode === 'session' ? ['warn'] : ['warn', 'fail']);
        } finally {
          await bouncer.stop();
        }
      });
    }

    it('that cannot be made', async () => {
      const findings = await look(
        database,
        {},
        { LISTEN_DATABASE_URL: 'postgres://who:secret@127.0.0.1:1/x' },
      );
      const [listen] = of('listen', findings);
      expect(listen?.grade).to.equal('fail');
      expect(listen?.says)
        .to.match(/^LISTEN_DATABASE_URL: .*ECONNREFUSED/)
        .and.not.include('secret');
      expect(gradesOf('horizon', findings), 'and the rest is looked at').to.deep.equal(['ok']);
    });
  });

  it('an instance that is not ready, is something else, or does not answer', async () => {
    const answers: [number, string][] = [
      [503, '{"status":"draining"}'],
      [503, '{"status":"unavailable"}'],
      [404, 'not here'],
    ];
    let asked = 0;
    const server = createServer((_, response) => {
      const [status, body] = answers[asked++] ?? [500, ''];
      response.writeHead(status).end(body);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const said = async () => of('instance', await look(database, { urls: [url] }))[0];
    try {
      expect((await said())?.says).to.equal(`${url} is draining`);
      expect((await said())?.says).to.equal(`${url} is unavailable`);
      expect((await said())?.says).to.equal(`${url} is no settlewire: 404 from /readyz`);
    } finally {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    }
    expect((await said())?.says).to.match(new RegExp(`^${url} does not answer: ECONNREFUSED`));
  });
});
