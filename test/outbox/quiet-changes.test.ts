import { expect } from 'chai';
import type { Pool } from 'pg';
import { createPool } from '../../src/database.ts';
import { migrate } from '../../src/migrate.ts';
import { OwnPostgres } from '../support/own-postgres.ts';
import { column, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

/** What docs/dba.md promises of changes that no trigger sees. */
describe('changes behind the triggers’ back', function () {
  this.timeout(60_000);
  let server: OwnPostgres;

  before(async () => {
    server = await OwnPostgres.start({ settings: { fsync: 'off', wal_level: 'logical' } });
    await server.pool.query(
      `insert into streams (payer, recipient, status, rate_per_second, total_amount) values ('a', 'b', 'active', 1, 10)`,
    );
  });

  after(() => server.remove());

  const events = (pool: Pool) => scalar<number>(pool, 'select count(*) from outbox');

  it('a session with session_replication_role = replica causes no event, and the next transaction does', async () => {
    const before = await events(server.pool);
    const client = await server.pool.connect();
    try {
      await client.query(
        `begin; set local session_replication_role = replica; update streams set total_amount = 11; commit`,
      );
      expect(await events(server.pool)).to.equal(before);
      await client.query('update streams set total_amount = 12');
      expect(await events(server.pool)).to.equal(before + 1);
    } finally {
      client.release();
    }
  });

  it('a trigger that is disabled tells nothing until it is enabled', async () => {
    const before = await events(server.pool);
    await server.pool.query('alter table streams disable trigger event_stream_updated');
    await server.pool.query('update streams set total_amount = 13');
    await server.pool.query('alter table streams enable trigger event_stream_updated');
    expect(await events(server.pool)).to.equal(before);
    await server.pool.query('update streams set total_amount = 14');
    expect(await events(server.pool)).to.equal(before + 1);
  });

  it('in a transaction with events to come no trigger can be disabled', async () => {
    const before = await events(server.pool);
    const client = await server.pool.connect();
    try {
      await client.query('begin; update streams set total_amount = 15');
      const failed = await client
        .query('alter table streams disable trigger event_stream_updated')
        .catch((error: Error) => error);
      expect(String(failed)).to.match(/pending trigger events/);
      await client.query('rollback');
      await client.query('begin; update streams set total_amount = 15');
      await client.query('set constraints all immediate');
      await client.query('alter table streams disable trigger event_stream_updated');
      await client.query('alter table streams enable trigger event_stream_updated');
      await client.query('commit');
    } finally {
      client.release();
    }
    expect(await events(server.pool)).to.equal(before + 1);
  });

  it('rows that logical replication applies cause events only with enable always', async () => {
    await server.pool.query('create database copy');
    const url = new URL(server.url);
    url.pathname = '/copy';
    await migrate({ connectionString: url.href, set: 'all' });
    const copy = createPool(url.href, { max: 2 });
    try {
      await server.pool.query('create publication ours for table streams');
      // Within one cluster the slot must be there first, or the subscription would wait for itself.
      await server.pool.query(`select pg_create_logical_replication_slot('ours', 'pgoutput')`);
      const { hostname, port } = url;
      await copy.query(
        `create subscription ours connection 'host=${hostname} port=${port} user=postgres dbname=postgres'
           publication ours with (create_slot = false, slot_name = 'ours')`,
      );
      const amount = () => column<string>(copy, 'select total_amount::numeric(9, 0)::text from streams');
      await waitFor(async () => (await amount()).length === 1, { what: 'the copied row', timeoutMs: 20_000 });
      await server.pool.query('update streams set total_amount = 16');
      await waitFor(async () => (await amount())[0] === '16', {
        what: 'the first change',
        timeoutMs: 20_000,
      });
      expect(await events(copy)).to.equal(0);
      await copy.query('alter table streams enable always trigger event_stream_updated');
      await server.pool.query('update streams set total_amount = 17');
      await waitFor(async () => (await amount())[0] === '17', {
        what: 'the second change',
        timeoutMs: 20_000,
      });
      expect(await column(copy, 'select type from outbox')).to.deep.equal(['stream:updated']);
    } finally {
      await copy.query('drop subscription if exists ours');
      await copy.end();
    }
  });
});
