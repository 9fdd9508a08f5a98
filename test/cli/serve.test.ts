import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { expect } from 'chai';
import pg from 'pg';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { scalar } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson } from '../support/world.ts';

async function waitsForLock(pool: pg.Pool, applicationName: string): Promise<boolean> {
  const { rowCount } = await pool.query(
    "select from pg_stat_activity where application_name = $1 and wait_event_type = 'Lock' and datname = current_database()",
    [applicationName],
  );
  return rowCount === 1;
}

describe('settlewire as a process', function () {
  this.timeout(40_000);
  const processes: ServiceProcess[] = [];
  const databases: TestDatabase[] = [];
  const clients: pg.Client[] = [];

  afterEach(async () => {
    await Promise.all(processes.splice(0).map((process) => process.kill()));
    await Promise.all(clients.splice(0).map((client) => client.end()));
    await Promise.all(databases.splice(0).map((database) => database.drop()));
  });

  async function make(environment: Record<string, string>, ...command: string[]): Promise<ServiceProcess> {
    const made = await ServiceProcess.create(environment, command.length === 0 ? {} : { command });
    processes.push(made);
    return made;
  }

  async function migrated(): Promise<TestDatabase> {
    const database = await createTestDatabase();
    databases.push(database);
    return database;
  }

  async function empty(): Promise<TestDatabase> {
    const database = await createEmptyDatabase();
    databases.push(database);
    return database;
  }

  /** Runs it to its end. */
  async function run(
    environment: Record<string, string>,
    ...command: string[]
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const made = await make(environment, ...command);
    made.spawn();
    const { code } = await made.exit;
    return { code, stdout: made.stdout, stderr: made.stderr };
  }

  const tables = async ({ pool }: TestDatabase): Promise<number> => {
    const { rows } = await pool.query<{ n: number }>(
      "select count(*)::int as n from pg_tables where schemaname = 'public'",
    );
    return rows[0]?.n ?? -1;
  };

  describe('a command that cannot be done', () => {
    it('a configuration with mistakes: one line for each, and nothing is started', async () => {
      const database = await empty();
      const { code, stderr, stdout } = await run({
        DATABASE_URL: database.url,
        JWT_SECRET: 'short',
        HEARTBEAT_SECONDS: 'often',
        MIGRATE: 'maybe',
      });
      expect(code).to.equal(1);
      expect(stdout).to.equal('');
      const lines = stderr.trimEnd().split('\n');
      expect(lines.map((line) => /^settlewire: ([A-Z_]+): /.exec(line)?.[1])).to.have.members([
        'JWT_SECRET',
        'HEARTBEAT_SECONDS',
        'MIGRATE',
      ]);
      expect(await tables(database)).to.equal(0);
    });

    it('a database but no key', async () => {
      const { code, stderr } = await run({
        DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
        JWT_SECRET: '',
      });
      expect(code).to.equal(1);
      expect(stderr).to.match(/^settlewire: JWT_SECRET: is not set.*\n$/);
    });

    for (const host of ['127.0.0.1', 'localhost'])
      for (const command of ['serve', 'migrate'])
        it(`${command} with nobody at ${host}: what was asked, and what to do`, async () => {
          const { code, stderr } = await run({ DATABASE_URL: `postgres://nobody@${host}:1/none` }, command);
          expect(code).to.equal(1);
          expect(stderr).to.match(
            /^settlewire: DATABASE_URL: no connection to \S+:1\/none: connect ECONNREFUSED \S+:1; nothing listens there: is Postgres running, .*\n$/,
          );
        });

    it('a database that does not exist: what to do', async () => {
      const url = new URL((await empty()).url);
      url.pathname = '/nowhere';
      const { code, stderr } = await run({ DATABASE_URL: url.href }, 'migrate');
      expect(code).to.equal(1);
      expect(stderr).to.match(
        /^settlewire: DATABASE_URL: no connection to \S+: .*"nowhere".*: create database …\n$/,
      );
    });

    for (const name of ['PORT', 'ADMIN_PORT']) {
      it(`${name} in use: one line that names the port`, async () => {
        const other: Server = createServer().listen(0, '127.0.0.1');
        await once(other, 'listening');
        const port = String((other.address() as { port: number }).port);
        const { code, stderr } = await run({ DATABASE_URL: (await migrated()).url, [name]: port });
        other.close();
        expect(code).to.equal(1);
        expect(stderr.trimEnd().split('\n')).to.have.length(1);
        expect(stderr)
          .to.match(/^settlewire: .*in use/)
          .and.to.include(port);
      });
    }

    it('a command that does not exist: the help, and 2', async () => {
      const { code, stderr, stdout } = await run({}, 'serv');
      expect([code, stdout]).to.deep.equal([2, '']);
      expect(stderr)
        .to.match(/there is no command "serv"/)
        .and.to.include('Usage: settlewire <command>');
    });

    it('help on request: on stdout, and 0', async () => {
      const { code, stderr, stdout } = await run({}, '--help');
      expect([code, stderr]).to.deep.equal([0, '']);
      expect(stdout).to.include('Usage: settlewire <command>');
    });
  });

  describe('migrations', () => {
    it('migrate twice: the second time there is nothing to apply', async () => {
      const { url } = await empty();
      const first = await run({ DATABASE_URL: url, JWT_SECRET: '' }, 'migrate');
      expect([first.code, first.stderr]).to.deep.equal([0, '']);
      expect(first.stdout).to.match(/^(applied \d{4}_(outbox|domain)_\w+\n){7,}$/);
      const second = await run({ DATABASE_URL: url, JWT_SECRET: '' }, 'migrate');
      expect([second.code, second.stdout]).to.deep.equal([0, 'nothing to apply\n']);
    });

    it("MIGRATE=outbox: only the outbox's own, for a database whose tables are somebody else's", async () => {
      const { url } = await empty();
      const environment = { DATABASE_URL: url, MIGRATE: 'outbox' };
      const { code, stdout, stderr } = await run(environment, 'migrate');
      expect([code, stderr]).to.deep.equal([0, '']);
      expect(stdout).to.match(/^(applied \d{4}_outbox_\w+\n)+$/);
      const again = await run({ ...environment, MIGRATE: 'off' });
      expect(again.stderr, 'serve with all of them').to.match(/migrations are missing.*_domain_/);
    });

    it('MIGRATE=off with migrations missing: refuses, and says which', async () => {
      const database = await empty();
      const { code, stderr } = await run({ DATABASE_URL: database.url, MIGRATE: 'off' });
      expect(code).to.equal(1);
      expect(stderr).to.match(
        /^settlewire: migrations are missing, run settlewire migrate: 0001_outbox_\w+, .*\n$/,
      );
      expect(await tables(database)).to.equal(0);
    });

    it('two instances that start together on an empty database: both get ready, on one history', async () => {
      const { url, pool } = await empty();
      const both = [await make({ DATABASE_URL: url }), await make({ DATABASE_URL: url })];
      await Promise.all(both.map((service) => service.start()));
      const person = await makePerson(pool, 1);
      // The person makes events, which each instance reads when it hears of them.
      const head = await scalar<number>(pool, 'select max(id) from outbox');
      const headers = { Authorization: `Bearer ${person.token}` };
      const answers = () =>
        Promise.all(
          both.map(
            async ({ url }) =>
              (await (await fetch(`${url}/v1/cursor`, { headers })).json()) as { cursor: number },
          ),
        );
      await waitFor(async () => (await answers()).every(({ cursor }) => cursor === head), {
        what: 'both to have read all',
      });
      const [first, second] = await answers();
      expect(first).to.deep.equal(second);
    });
  });

  describe('readiness', () => {
    it('alive at once, ready only when migrated and caught up', async () => {
      const { url, pool } = await migrated();
      const { token } = await makePerson(pool, 1);
      const service = await make({ DATABASE_URL: url, MIGRATE: 'off' });
      // Held up twice: where it looks for migrations, and where the relay begins, with the epoch.
      const steps = { 'settlewire migrate': 'outbox_migration', 'settlewire relay': 'outbox_meta' };
      const blockers = await Promise.all(
        Object.values(steps).map(async (table) => {
          const client = new pg.Client({ connectionString: url });
          clients.push(client);
          await client.connect();
          await client.query(`begin; lock table ${table} in access exclusive mode`);
          return client;
        }),
      );
      service.spawn();
      for (const name of Object.keys(steps)) {
        await waitFor(() => waitsForLock(pool, name), { what: `${name} to be held up`, timeoutMs: 15_000 });
        expect((await fetch(`${service.url}/healthz`)).status).to.equal(200);
        const readiness = await fetch(`${service.url}/readyz`);
        expect([readiness.status, await readiness.json()]).to.deep.equal([503, { status: 'unavailable' }]);
        const client = await SseClient.open(`${service.url}/v1/events`, token);
        await client.untilEnded();
        expect(client.messages.map(({ data }) => data['reason'])).to.deep.equal(['unavailable']);
        await blockers.shift()?.end();
      }
      await waitFor(async () => (await service.readiness()) === 200, { what: 'a 200' });
    });
  });
});
