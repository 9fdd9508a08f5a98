import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { column } from '../support/session.ts';
import { insert, newStream } from './fixtures.ts';

/** Rows whose text is as long as their CHECKs allow, in the tables whose events carry text of varying length. */
describe('the largest events of our own tables', () => {
  let database: TestDatabase;
  before(async () => {
    database = await createTestDatabase();
  });
  after(() => database.drop());

  it('stay below the 2,048 bytes under which nobody measures them', async () => {
    const { pool } = database;
    const user = await insert(pool, 'users', { wallet_address: 'w'.repeat(128) });
    const stream = await newStream(pool, {
      payer: 'p'.repeat(128),
      recipient: 'r'.repeat(128),
      label: 'l'.repeat(100_000),
    });
    await insert(pool, 'settlements', {
      stream_id: stream,
      status: 'failed',
      amount: '99999999999.999999999',
      asset: 'a'.repeat(128),
      tx_hash: 't'.repeat(128),
      failure_code: 'f'.repeat(64),
      finished_at: new Date().toISOString(),
    });
    const escrow = await insert(pool, 'escrows', {
      amount: '99999999999.9999999',
      creator_id: user,
      asset_code: 'A'.repeat(12),
      transaction_hash: 't'.repeat(128),
      description: 'd'.repeat(100_000),
    });
    await pool.query(`update escrows set status = 'cancelled' where id = $1`, [escrow]);
    await insert(pool, 'escrow_conditions', {
      escrow_id: escrow,
      amount: '99999999999.9999999',
      is_released: true,
      tx_hash: 't'.repeat(128),
    });
    await insert(pool, 'notifications', {
      user_id: user,
      escrow_id: escrow,
      event_type: 'e'.repeat(64),
      payload: JSON.stringify({
        ...Object.fromEntries(
          ['streamId', 'conditionId', 'disputeId', 'settlementId'].map((key) => [key, escrow]),
        ),
        amount: `-${'9'.repeat(40)}.${'9'.repeat(20)}`,
        asset: `${'A'.repeat(12)}:${'B'.repeat(64)}`,
        txHash: `0x${'f'.repeat(128)}`,
        note: 'n'.repeat(100_000),
      }),
    });
    const bytes = await column<number>(
      pool,
      `select octet_length(data::text) from outbox where type not like 'access:%' order by 1`,
    );
    expect(bytes).to.have.length(5);
    expect(bytes.at(-1)).to.be.within(600, 2047);
  });
});
