import { expect } from 'chai';
import { Retention } from '../../src/outbox/retention.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait-for.ts';

describe('retention', () => {
  let database: TestDatabase;
  const warnings: string[] = [];
  let retention: Retention;
  const log = { info: () => {}, warn: (_fields: object, message: string) => void warnings.push(message) };

  beforeEach(async () => {
    database = await createTestDatabase();
    warnings.length = 0;
    // Partitions of ten ids each; the ids of the first three are used.
    await database.pool.query(`
      do $$ declare part regclass; begin
        for part in select inhrelid from pg_inherits where inhparent = 'outbox'::regclass and inhrelid <> 'outbox_default'::regclass loop
          execute 'drop table ' || part;
        end loop;
      end $$;
      update outbox_meta set partition_ids = 10;
      select outbox_add_partitions(3);
      select outbox_publish('user:1', 'test:event', '{}') from generate_series(1, 35);
    `);
  });

  afterEach(async () => {
    await retention.stop();
    await database.drop();
  });

  async function partitions(): Promise<string[]> {
    const { rows } = await database.pool.query<{ partition: string }>(
      'select partition from outbox_partitions where from_id is not null order by from_id',
    );
    return rows.map(({ partition }) => partition);
  }

  it('keeps partitions ahead of the sequence and drops those whose events are all too old', async () => {
    await database.pool.query("update outbox set created_at = now() - interval '2 hours' where id < 25");
    retention = new Retention({ pool: database.pool, log, retentionHours: 1, intervalMs: 60_000 });
    retention.start();
    retention.start();
    await waitFor(async () => (await partitions())[0] === 'outbox_p20', {
      what: 'the old partitions to go',
      timeoutMs: 15_000,
    });
    await retention.stop();
    await retention.stop();
    expect(await partitions()).to.deep.equal([
      'outbox_p20',
      'outbox_p30',
      'outbox_p40',
      'outbox_p50',
      'outbox_p60',
      'outbox_p70',
    ]);
    const { rows } = await database.pool.query(
      'select outbox_oldest() as oldest, min(id) as first from outbox',
    );
    expect(rows[0]).to.deep.equal({ oldest: 19, first: 20 });
    expect(warnings).to.deep.equal([]);
  });

  it('never drops the partition that the next event goes to, however old its events are', async () => {
    await database.pool.query("update outbox set created_at = now() - interval '2 hours'");
    retention = new Retention({ pool: database.pool, log, retentionHours: 1, intervalMs: 60_000 });
    retention.start();
    await waitFor(async () => (await partitions())[0] === 'outbox_p30', {
      what: 'the old partitions to go',
      timeoutMs: 15_000,
    });
    await retention.stop();
    const { rows } = await database.pool.query('select min(id) as first from outbox');
    expect(rows[0]).to.deep.equal({ first: 30 });
  });

  it('gives way to a reader that is open, and says nothing of it', async () => {
    await database.pool.query("update outbox set created_at = now() - interval '2 hours'");
    const reader = await database.pool.connect();
    await reader.query('begin; select * from outbox');
    retention = new Retention({ pool: database.pool, log, retentionHours: 1, intervalMs: 60_000 });
    retention.start();
    await retention.stop();
    expect((await partitions())[0]).to.equal('outbox_p0');
    expect(warnings).to.deep.equal([]);
    await reader.query('rollback');
    reader.release();
  });

  it('carries on after an error, and says so', async () => {
    await database.pool.query('alter function outbox_add_partitions(integer) rename to away');
    retention = new Retention({ pool: database.pool, log, retentionHours: 1, intervalMs: 60_000 });
    retention.start();
    await retention.stop();
    expect(warnings).to.deep.equal(['outbox partitions: will try again']);
  });
});
