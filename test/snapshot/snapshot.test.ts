import { expect } from 'chai';
import { Kysely, PostgresDialect } from 'kysely';
import { createPool, type Database } from '../../src/database.ts';
import { readSnapshot } from '../../src/snapshot/snapshot.ts';
import {
  type Appended,
  appendedBy,
  insert,
  newEscrow,
  newParty,
  newStream,
  newUser,
  update,
} from '../domain/fixtures.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait-for.ts';

const MARKER = 'PII-MARKER Jane Roe';
const WALLET = 'wallet-1';
const ABSENT = '99999999-9999-4999-8999-999999999999';

describe('a snapshot', () => {
  let database: TestDatabase;
  let db: Kysely<Database>;
  const statements: string[] = [];
  let userId: string;
  let streamId: string;
  let escrowId: string;
  /** What the outbox got while these were made. */
  let events: Appended[];

  before(async () => {
    database = await createTestDatabase();
    db = new Kysely<Database>({
      dialect: new PostgresDialect({ pool: createPool(database.url, { max: 2 }) }),
      log: ({ query }) => {
        statements.push(query.sql);
      },
    });
    events = await appendedBy(database.pool, makeRows);
  });
  after(async () => {
    await db.destroy();
    await database.drop();
  });

  const snapshotOf = (topics: readonly string[]) => readSnapshot(db, async () => topics, 20_000);

  async function makeRows(): Promise<void> {
    const { pool } = database;
    userId = await newUser(pool, { wallet_address: WALLET });
    streamId = await newStream(pool, {
      payer: WALLET,
      label: MARKER,
      off_chain_memo: MARKER,
      end_time: '2031-02-03 04:05:06.789+02',
      last_settled_at: 'infinity',
    });
    await insert(pool, 'settlements', {
      stream_id: streamId,
      status: 'failed',
      amount: '0.000000100',
      asset: 'USDC',
      failure_code: 'no_funds',
      finished_at: '2024-02-29 23:59:59.9999+00',
    });
    const texts = { title: MARKER, description: MARKER };
    escrowId = await newEscrow(pool, { creator_id: userId, ...texts, transaction_hash: '0xaa' });
    await update(pool, 'escrows', escrowId, { status: 'active' });
    await newParty(pool, escrowId, await newUser(pool), {
      status: 'accepted',
      responded_at: '2024-01-01 00:00:00+05:30',
    });
    await insert(pool, 'escrow_conditions', {
      escrow_id: escrowId,
      description: MARKER,
      amount: '12.5',
      is_released: true,
      released_at: '2024-01-02T00:00:00Z',
      tx_hash: 'dd',
    });
    await insert(pool, 'escrow_conditions', { escrow_id: escrowId, amount: '87.5' });
    await insert(pool, 'disputes', {
      escrow_id: escrowId,
      filed_by_user_id: userId,
      reason: MARKER,
      evidence: MARKER,
      status: 'resolved',
      outcome: 'split',
      seller_percent: '33.3',
      buyer_percent: '66.7',
      resolved_at: '2024-01-03T00:00:00Z',
    });
    await insert(pool, 'notifications', {
      user_id: userId,
      escrow_id: escrowId,
      event_type: 'escrow.funded',
      payload: JSON.stringify({ note: MARKER, amount: '1' }),
      read_at: '2024-01-04T00:00:00Z',
    });
  }

  /** The data of the latest event of that type, less the keys that only the event has. */
  function eventData(type: string, ...without: string[]): Record<string, unknown> {
    const data = events.findLast((event) => event.type === type)?.data ?? {};
    return Object.fromEntries(Object.entries(data).filter(([key]) => !without.includes(key)));
  }

  it('says the same in the same words as the events that led to it', async () => {
    const stream = {
      ...eventData('stream:updated', 'previousStatus'),
      settlements: [eventData('settle:finished')],
    };
    const escrow = {
      ...eventData('escrow:status_changed', 'previousStatus'),
      amount: '100.0000000',
      releasedAmount: eventData('escrow:milestone_released')['releasedAmount'],
      asset: 'USDC',
      parties: [eventData('escrow:party_joined', 'escrowId')],
      milestones: [eventData('escrow:milestone_released', 'escrowId', 'releasedAmount')],
      dispute: {
        ...eventData('escrow:dispute_filed', 'escrowId'),
        ...eventData('escrow:dispute_resolved', 'escrowId'),
      },
    };
    const { id, escrowId: about, eventType, status, createdAt } = eventData('notification:new');
    const { readAt } = eventData('notification:read');
    const expected = {
      [`stream:${streamId}`]: stream,
      [`escrow:${escrowId}`]: escrow,
      [`user:${userId}`]: {
        notifications: [{ id, escrowId: about, eventType, status, createdAt, readAt }],
        escrows: [escrow],
      },
      [`wallet:${WALLET}`]: { streams: [stream] },
    };
    expect(await snapshotOf(Object.keys(expected))).to.deep.equal(expected);
    // Not vacuous: the events that it was compared with were there.
    expect(stream).to.include({
      endTime: '2031-02-03T02:05:06.789Z',
      lastSettledAt: null,
      totalAmount: '12345678901.000000009',
    });
    expect(escrow.dispute).to.include({ filedByRole: 'creator', status: 'resolved', sellerPercent: '33.30' });
  });

  it('holds nothing of free text, payloads, people or wallets', async () => {
    const states = await snapshotOf([`user:${userId}`, `wallet:${WALLET}`]);
    const text = JSON.stringify(Object.values(states));
    for (const word of ['PII', 'MARKER', 'Jane', 'Roe', WALLET, 'recipient-1', userId])
      expect(text).not.to.include(word);
  });

  it('says null of what does not exist, or cannot', async () => {
    const topics = [`stream:${ABSENT}`, `escrow:${ABSENT}`, 'stream:none', 'escrow:none'];
    expect(await snapshotOf(topics)).to.deep.equal(Object.fromEntries(topics.map((topic) => [topic, null])));
    expect(await snapshotOf(['user:none', 'wallet:none'])).to.deep.equal({
      'user:none': { notifications: [], escrows: [] },
      'wallet:none': { streams: [] },
    });
  });

  it('holds a person’s escrows once each, and none that they rejected', async () => {
    const { pool } = database;
    const person = await newUser(pool);
    const [invited, rejected] = [await newEscrow(pool), await newEscrow(pool)];
    await newParty(pool, invited, person, { role: 'buyer' });
    await newParty(pool, invited, person, { role: 'seller', status: 'accepted' });
    await newParty(pool, rejected, person, { status: 'rejected' });
    const states = await snapshotOf([`user:${person}`, `escrow:${invited}`]);
    expect(states[`user:${person}`]).to.deep.equal({
      notifications: [],
      escrows: [states[`escrow:${invited}`]],
    });
  });

  it('holds the latest 20 finished settlements and the latest 50 notifications, newest first', async () => {
    const { pool } = database;
    const [stream, person] = [await newStream(pool), await newUser(pool)];
    await pool.query(
      `insert into settlements (stream_id, status, amount, asset, finished_at)
       select $1::uuid, case n % 2 when 0 then 'succeeded' else 'failed' end, n, 'XLM', now() + n * interval '1 h'
         from generate_series(1, 30) n
       union all select $1, 'pending', 1000, 'XLM', null
       union all select $1, 'failed', 2000, 'XLM', null`,
      [stream],
    );
    await pool.query(
      `insert into notifications (user_id, event_type, created_at)
       select $1::uuid, 'n.' || n, now() + n * interval '1 h' from generate_series(1, 60) n`,
      [person],
    );
    const states = await snapshotOf([`stream:${stream}`, `user:${person}`]);
    expect(states[`stream:${stream}`])
      .to.have.property('settlements')
      .with.lengthOf(20)
      .that.satisfies((kept: { amount: string }[]) =>
        kept.every(({ amount }, place) => Number(amount) === 30 - place),
      );
    expect(states[`user:${person}`])
      .to.have.property('notifications')
      .with.lengthOf(50)
      .that.satisfies((kept: { eventType: string }[]) =>
        kept.every(({ eventType }, place) => eventType === `n.${60 - place}`),
      );
  });

  it('costs eight queries for 500 streams and 300 escrows', async () => {
    const { pool } = database;
    const person = await newUser(pool);
    await pool.query(
      `with made as (insert into streams (payer, recipient, rate_per_second, total_amount)
                     select 'wallet-500', 'x', 1, n from generate_series(1, 500) n returning id)
       insert into settlements (stream_id, status, amount, asset) select id, 'succeeded', 1, 'XLM' from made`,
    );
    await pool.query('insert into escrows (creator_id, amount) select $1, n from generate_series(1, 300) n', [
      person,
    ]);
    statements.length = 0;
    const states = await snapshotOf([`user:${person}`, 'wallet:wallet-500']);
    expect(states['wallet:wallet-500']).to.have.property('streams').with.lengthOf(500);
    expect(states[`user:${person}`]).to.have.property('escrows').with.lengthOf(300);
    expect(statements.filter((statement) => statement.includes('select'))).to.have.lengthOf(8);
  });

  it('is all of one moment, whatever commits while it is read', async () => {
    const stream = await newStream(database.pool);
    const writer = await database.pool.connect();
    try {
      await writer.query('begin; lock table settlements in access exclusive mode');
      const answer = snapshotOf([`stream:${stream}`]);
      await waitFor(isBlocked, { what: 'the snapshot to wait for the lock' });
      await update(writer, 'streams', stream, { status: 'completed' });
      const settled = { status: 'succeeded', amount: 1, asset: 'XLM' };
      await insert(writer, 'settlements', { stream_id: stream, ...settled });
      await writer.query('commit');
      expect((await answer)[`stream:${stream}`]).to.deep.include({ status: 'active', settlements: [] });
    } finally {
      writer.release();
    }
  });

  async function isBlocked(): Promise<boolean> {
    const { rows } = await database.pool.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    return rows.length > 0;
  }
});
