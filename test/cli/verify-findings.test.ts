import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server as TcpServer } from 'node:net';
import { expect } from 'chai';
import jwt from 'jsonwebtoken';
import { runVerify } from '../../src/cli/verify.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { failure } from '../support/session.ts';
import { JWT_SECRET, mintToken } from '../support/tokens.ts';

/** Takes event 3 out of the outbox behind its writer's back. */
const FAULTS = `create function fault() returns trigger language plpgsql as $$
  begin
    if new.data ->> 'number' = '3' then return null; end if;
    return new;
  end $$;
  create trigger fault before insert on outbox for each row execute function fault()`;

describe('what settlewire verify finds', function () {
  this.timeout(40_000);
  let database: TestDatabase;
  const servers: (Server | TcpServer)[] = [];

  beforeEach(async () => {
    database = await createTestDatabase();
  });

  afterEach(async () => {
    for (const server of servers.splice(0)) {
      if ('closeAllConnections' in server) server.closeAllConnections();
      server.close();
    }
    await database.drop();
  });

  async function listen<T extends Server | TcpServer>(server: T): Promise<number> {
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  async function serve(listener: RequestListener): Promise<string> {
    return `http://127.0.0.1:${await listen(createServer(listener))}`;
  }

  async function run(
    args: readonly string[],
    environment: Record<string, string> = {},
  ): Promise<{ exact: boolean; stdout: string }> {
    let stdout = '';
    const exact = await runVerify(
      ['--seconds', '1', '--writers', '2', '--subscribers', '2', ...args],
      { DATABASE_URL: database.url, JWT_SECRET, ...environment },
      (text) => {
        stdout += text;
      },
    );
    return { exact, stdout };
  }

  const refused = async (args: readonly string[], environment: Record<string, string> = {}) =>
    (await failure(run(args, environment))).message;

  it('events that are gone though their commit was confirmed are LOST', async () => {
    await database.pool.query(FAULTS);
    const service = await startService(database.url);
    try {
      const { exact, stdout } = await run(['--url', service.url, '--rollback-percent', '0']);
      expect(exact).to.equal(false);
      expect(stdout).to.match(/^LOST {10}1 events whose commit was confirmed are not in the outbox$/m);
    } finally {
      await service.stop();
    }
  });

  it('listens to the topic of the user whose token it got', async () => {
    const sub = 'AB000000-0000-4000-8000-00000000000C';
    const service = await startService(database.url);
    try {
      const { exact } = await run(['--url', service.url, '--token', mintToken({ sub })]);
      expect(exact).to.equal(true);
    } finally {
      await service.stop();
    }
    const topics = await database.pool.query('select distinct topic from outbox');
    expect(topics.rows).to.deep.equal([{ topic: `user:${sub.toLowerCase()}` }]);
  });

  it('a token of nobody is no token to listen with', async () => {
    for (const token of [mintToken({}), jwt.sign('text', JWT_SECRET), 'nonsense'])
      expect(await refused(['--token', token])).to.equal('--token: is not an access token with a sub');
  });

  it('a role that may not publish, and a database that is read-only', async () => {
    const name = new URL(database.url).pathname.slice(1);
    await database.pool.query(`alter database ${name} set default_transaction_read_only = on`);
    expect(await refused(['--url', 'http://127.0.0.1:1'])).to.match(/^the database is read-only/);
    await database.pool.query(`alter database ${name} reset default_transaction_read_only`);
    await database.pool.query(`alter database ${name} set role = 'pg_monitor'`);
    expect(await refused(['--url', 'http://127.0.0.1:1'])).to.match(
      /^this role may not publish or read events \(permission denied .*\): use the owner of the outbox$/,
    );
  });

  it('a database that is something else, or a name with several addresses', async () => {
    const port = await listen(createTcpServer((socket) => socket.end()));
    const other = { DATABASE_URL: `postgres://somebody@127.0.0.1:${port}/none` };
    expect(await refused([], other)).to.match(/^cannot reach the database: Connection terminated/);
    const none = { DATABASE_URL: 'postgres://somebody@localhost:1/none' };
    expect(await refused([], none)).to.match(/^cannot reach the database: .*ECONNREFUSED/);
  });

  it('a refusal without a word, and an instance that nobody can be asked for', async () => {
    const url = await serve((request, response) => {
      response.writeHead(request.url === '/readyz' ? 200 : 403).end();
    });
    expect(await refused(['--url', url])).to.equal(
      `${url} refuses the token: 403 :  With AUTHORIZE_FUNCTION give the --token of somebody whom it lets in.`,
    );
    const gone = createTcpServer();
    const port = await listen(gone);
    gone.close();
    expect(await refused(['--url', `http://localhost:${port}`])).to.match(/^cannot reach .*ECONNREFUSED/);
    expect(await refused(['--url', 'http://somebody:word@127.0.0.1'])).to.match(/^cannot reach /);
  });
});
