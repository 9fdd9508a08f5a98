import { expect } from 'chai';
import pg from 'pg';
import { openServiceRole } from '../src/embedded/service-role.ts';
import { type PrivatePostgres, startPrivatePostgres } from './support/private-postgres.ts';
import { failure, scalar } from './support/session.ts';

describe("the service's role in a database of its own", function () {
  this.timeout(60_000);
  let server: PrivatePostgres;

  before(async () => {
    server = await startPrivatePostgres();
  });
  after(() => server.stop());

  async function as<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  }

  it('has all its rights, each time anew, and a password that changes', async () => {
    const first = await openServiceRole(server.url);
    const second = await openServiceRole(server.url);
    expect(new URL(second).username).to.equal(new URL(first).username);
    expect(new URL(second).password).to.not.equal(new URL(first).password);
    await as(second, async (client) => {
      expect((await client.query('select outbox_missing_rights()')).rows).to.deep.equal([]);
      expect((await failure(client.query("update users set role = 'ADMIN'"))).code).to.equal('42501');
    });
  });

  it('before the migrations: can connect, and is given nothing', async () => {
    await server.pool.query('create database empty template template0');
    const url = new URL(server.url);
    url.pathname = '/empty';
    const role = await as(await openServiceRole(url.href), (client) =>
      scalar<string>(client, 'select current_user'),
    );
    expect(role).to.equal('settlewire_service');
  });
});
