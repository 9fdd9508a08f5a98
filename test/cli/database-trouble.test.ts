import { expect } from 'chai';
import pg from 'pg';
import { databaseTrouble } from '../../src/cli/database-trouble.ts';
import { createPool } from '../../src/database.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { failure } from '../support/session.ts';

const REFUSED = 'nothing listens there: is Postgres running, and listen_addresses right?';

describe('what a command says of a database that it cannot have', () => {
  let database: TestDatabase;

  before(async () => {
    database = await createTestDatabase();
  });

  after(() => database.drop());

  const told = async (url: string, query = 'select 1'): Promise<string> => {
    const pool = createPool(url, { max: 1, applicationName: 'trouble' });
    try {
      return String((databaseTrouble(await failure(pool.query(query)), url) as Error).message);
    } finally {
      await pool.end();
    }
  };

  it('where it is and why, without user and password', async () => {
    expect(await told('postgres://ana:secret@127.0.0.1:1/app')).to.equal(
      `DATABASE_URL: no connection to 127.0.0.1:1/app: connect ECONNREFUSED 127.0.0.1:1; ${REFUSED}`,
    );
    const missing = new URL(database.url);
    missing.pathname = '/missing';
    expect(await told(missing.href)).to.equal(
      `DATABASE_URL: no connection to ${missing.host}/missing: database "missing" does not exist; there is no such database: create database …`,
    );
  });

  it('a name with several addresses; a URL that is none', () => {
    const both = Object.assign(new Error(''), { code: 'ECONNREFUSED', errors: [new Error('connect ::1')] });
    expect(databaseTrouble(both, 'postgres://localhost/app')).to.have.property(
      'message',
      `DATABASE_URL: no connection to localhost/app: connect ::1; ${REFUSED}`,
    );
    const bare = Object.assign(new Error(''), { code: 'ECONNREFUSED' });
    expect(databaseTrouble(bare, '/var/run/postgresql app')).to.have.property(
      'message',
      `DATABASE_URL: no connection to the database: ECONNREFUSED; ${REFUSED}`,
    );
  });

  it('a role without the rights: who has them', async () => {
    const refused = Object.assign(new pg.DatabaseError('permission denied for schema wire', 0, 'error'), {
      code: '42501',
    });
    expect(databaseTrouble(refused, database.url))
      .to.have.property('message')
      .that.matches(/permission denied for schema wire\. .*settlewire migrate, as the owner/);
  });

  it('anything else is left as it is', async () => {
    const other = await failure(database.pool.query('select nothing'));
    expect(databaseTrouble(other, database.url)).to.equal(other);
    for (const trouble of [new Error('x'), Object.assign(new Error('listen'), { code: 'EADDRINUSE' })])
      expect(databaseTrouble(trouble, database.url)).to.equal(trouble);
  });
});
