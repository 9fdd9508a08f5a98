import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { appendedBy, event, insert, inTransaction, newStream, update, withoutAccess } from './fixtures.ts';

const T1 = '2030-01-02T03:04:05.678Z';
const T2 = '2030-02-03T04:05:06.789Z';

describe('stream and settlement events', () => {
  let database: TestDatabase;
  before(async () => {
    database = await createTestDatabase();
  });
  after(() => database.drop());

  const changes = async (work: () => Promise<unknown>) =>
    withoutAccess(await appendedBy(database.pool, work));

  it('a new stream is announced with no previous status', async () => {
    let id = '';
    const events = await changes(async () => {
      id = await newStream(database.pool, { updated_at: T1, end_time: T2, last_settled_at: T1 });
    });
    expect(events).to.deep.equal([
      event(
        'stream:updated',
        `stream:${id}`,
        id,
        'active',
        null,
        '0.000000001',
        '12345678901.000000009',
        T1,
        T2,
        T1,
      ),
    ]);
    expect(Object.keys(events[0]?.data ?? {})).to.deep.equal(
      Object.keys(event('stream:updated', '', ...Array(8)).data),
    );
  });

  for (const [column, value, key, sent] of [
    ['status', 'paused', 'status', 'paused'],
    ['rate_per_second', '2', 'ratePerSecond', '2.000000000'],
    ['total_amount', '3', 'totalAmount', '3.000000000'],
    ['end_time', T2, 'endTime', T2],
    ['last_settled_at', T2, 'lastSettledAt', T2],
  ] as const) {
    it(`a changed ${column} is an event`, async () => {
      const id = await newStream(database.pool);
      const events = await changes(() => update(database.pool, 'streams', id, { [column]: value }));
      expect(events.map(({ type }) => type)).to.deep.equal(['stream:updated']);
      expect(events[0]?.data).to.include({ previousStatus: 'active', [key]: sent });
    });
  }

  for (const [column, key] of [
    ['end_time', 'endTime'],
    ['last_settled_at', 'lastSettledAt'],
  ] as const) {
    it(`a ${column} that is taken away is an event, and null where it was null is none`, async () => {
      const id = await newStream(database.pool, { [column]: T1 });
      const events = await changes(async () => {
        await update(database.pool, 'streams', id, { [column]: null });
        await update(database.pool, 'streams', id, { [column]: null });
      });
      expect(events.map(({ type, data }) => [type, data[key]])).to.deep.equal([['stream:updated', null]]);
    });
  }

  it('other columns, and values set to what they were, are none', async () => {
    const id = await newStream(database.pool, { end_time: T1 });
    const events = await changes(async () => {
      const silent = {
        label: 'a',
        off_chain_memo: 'b',
        transaction_hash: '0xaa',
        chain_id: '1',
        start_time: T1,
      };
      await update(database.pool, 'streams', id, silent);
      await update(database.pool, 'streams', id, { status: 'active', total_amount: '12345678901.000000009' });
      await update(database.pool, 'streams', id, { end_time: T1, updated_at: T2 });
    });
    expect(events).to.deep.equal([]);
  });

  it('two changes in one transaction are two events, in order, each as its statement left the row', async () => {
    const id = await newStream(database.pool);
    const events = await changes(() =>
      inTransaction(database.pool, async (client) => {
        await update(client, 'streams', id, { status: 'paused', updated_at: T1 });
        await update(client, 'streams', id, { status: 'active', updated_at: T2, end_time: T2 });
      }),
    );
    expect(
      events.map(({ data }) => [data['previousStatus'], data['status'], data['endTime'], data['updatedAt']]),
    ).to.deep.equal([
      ['active', 'paused', null, T1],
      ['paused', 'active', T2, T2],
    ]);
  });

  it('a change that is rolled back is none', async () => {
    const id = await newStream(database.pool);
    const events = await changes(async () => {
      const client = await database.pool.connect();
      await client.query('begin');
      await update(client, 'streams', id, { status: 'paused' });
      await client.query('rollback');
      client.release();
    });
    expect(events).to.deep.equal([]);
  });

  it('updated_at moves with every change, unless the writer sets it', async () => {
    const id = await newStream(database.pool, { updated_at: T1 });
    await update(database.pool, 'streams', id, { label: 'x' });
    const moved = await database.pool.query('select updated_at from streams where id = $1', [id]);
    expect(moved.rows[0].updated_at.toISOString()).not.to.equal(T1);
    await update(database.pool, 'streams', id, { status: 'paused', updated_at: T2 });
    const set = await database.pool.query('select updated_at from streams where id = $1', [id]);
    expect(set.rows[0].updated_at.toISOString()).to.equal(T2);
  });

  it("times are the same whatever the writer's time zone and date style; infinity is null", async () => {
    const id = await newStream(database.pool);
    const events = await changes(() =>
      inTransaction(database.pool, async (client) => {
        await client.query(`set local timezone = 'Asia/Kathmandu'; set local datestyle = 'German, DMY'`);
        await client.query('update streams set end_time = $2, updated_at = $2 where id = $1', [id, T1]);
        await client.query(`update streams set end_time = 'infinity', updated_at = $2 where id = $1`, [
          id,
          T2,
        ]);
      }),
    );
    expect(events.map(({ data }) => [data['endTime'], data['updatedAt']])).to.deep.equal([
      [T1, T1],
      [null, T2],
    ]);
  });

  it('wallets are stored in their normal form', async () => {
    const id = await newStream(database.pool, {
      payer: `0x${'AB'.repeat(20)}`,
      recipient: `g${'a2'.repeat(27)}a`,
    });
    const { rows } = await database.pool.query('select payer, recipient from streams where id = $1', [id]);
    expect(rows[0]).to.deep.equal({ payer: `0x${'ab'.repeat(20)}`, recipient: `G${'A2'.repeat(27)}A` });
  });

  const settlement = { status: 'pending', amount: '1.5', asset: 'USDC' };

  it('a settlement that succeeds or fails is finished, once', async () => {
    const stream = await newStream(database.pool);
    let id = '';
    const events = await changes(async () => {
      id = await insert(database.pool, 'settlements', { stream_id: stream, ...settlement });
      await update(database.pool, 'settlements', id, { amount: '2' });
      await update(database.pool, 'settlements', id, {
        status: 'succeeded',
        tx_hash: '0xbeef',
        finished_at: T1,
      });
      await update(database.pool, 'settlements', id, {
        status: 'succeeded',
        tx_hash: '0xbeef',
        finished_at: T2,
      });
      await update(database.pool, 'settlements', id, {
        status: 'failed',
        failure_code: 'reorg',
        finished_at: T2,
      });
    });
    const topic = `stream:${stream}`;
    expect(events).to.deep.equal([
      event('settle:finished', topic, id, stream, 'succeeded', '2.000000000', 'USDC', '0xbeef', null, T1),
      event('settle:finished', topic, id, stream, 'failed', '2.000000000', 'USDC', '0xbeef', 'reorg', T2),
    ]);
  });

  for (const status of ['succeeded', 'failed']) {
    it(`a settlement recorded as ${status} is finished`, async () => {
      const stream = await newStream(database.pool);
      const events = await changes(() =>
        insert(database.pool, 'settlements', { stream_id: stream, ...settlement, status }),
      );
      expect(events.map(({ type, data }) => [type, data['status']])).to.deep.equal([
        ['settle:finished', status],
      ]);
    });
  }
});
