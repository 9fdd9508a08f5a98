import { expect } from 'chai';
import { EVENT_TYPES, keysOf } from '../../src/outbox/catalogue.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { appendedBy, insert, update } from './fixtures.ts';

const MARKER = 'PII-MARKER Jane Roe <jane.roe@example.org>, 192.0.2.7';
const UUID = '11111111-1111-4111-8111-111111111111';

/** Text that the database holds to a form or to a list of words: a value that it takes, for each such column. */
const HELD: Record<string, Record<string, string>> = {
  users: { wallet_address: 'w-1', role: 'USER' },
  streams: { payer: 'w-1', recipient: 'w-2', status: 'active', chain_id: '1', transaction_hash: '0xaa' },
  settlements: { status: 'failed', asset: 'USDC', tx_hash: '0xbb', failure_code: 'no_funds' },
  escrows: {
    asset_code: 'XLM',
    asset_issuer: 'GABC',
    status: 'pending',
    type: 'standard',
    transaction_hash: 'cc',
  },
  escrow_parties: { role: 'buyer', status: 'accepted' },
  escrow_conditions: { type: 'manual', tx_hash: 'dd' },
  disputes: { status: 'resolved', outcome: 'split' },
  notifications: { event_type: 'escrow.funded', status: 'sent' },
};

/** What else a row needs, in the order in which the tables depend on one another. */
const NEEDED: Record<string, Record<string, unknown>> = {
  users: { id: UUID },
  streams: { id: UUID, rate_per_second: 1, total_amount: 1 },
  settlements: { id: UUID, stream_id: UUID, amount: 1 },
  escrows: { id: UUID, creator_id: UUID, amount: 1 },
  escrow_parties: { id: UUID, escrow_id: UUID, user_id: UUID },
  escrow_conditions: { id: UUID, escrow_id: UUID, is_released: true },
  disputes: { id: UUID, escrow_id: UUID, filed_by_user_id: UUID },
  notifications: { id: UUID, user_id: UUID, escrow_id: UUID, read_at: new Date(0) },
};

const DETAIL_KEYS = keysOf('notification:new');

describe('personal data', () => {
  let database: TestDatabase;
  const free: Record<string, Record<string, string>> = {};

  before(async () => {
    database = await createTestDatabase();
    const { rows } = await database.pool.query<{
      table_name: string;
      column_name: string;
      data_type: string;
    }>(
      `select c.table_name, c.column_name, c.data_type
         from information_schema.columns c
         join information_schema.tables t using (table_schema, table_name)
        where c.table_schema = current_schema() and t.table_type = 'BASE TABLE' and c.table_name not like 'outbox%'
          and c.data_type not in ('uuid', 'numeric', 'boolean', 'timestamp with time zone')`,
    );
    for (const { table_name: table, column_name: column, data_type: type } of rows) {
      if (HELD[table]?.[column] !== undefined) continue;
      free[table] ??= {};
      free[table][column] = type.startsWith('json') ? plantedDocument() : MARKER;
    }
  });
  after(() => database.drop());

  function plantedDocument(): string {
    const planted = Object.fromEntries(DETAIL_KEYS.map((key) => [key, MARKER]));
    return JSON.stringify({ ...planted, [MARKER]: MARKER, deep: { amount: MARKER, list: [MARKER] } });
  }

  it('planted in every free text column appears in no event', async () => {
    const events = await appendedBy(database.pool, async () => {
      for (const [table, needed] of Object.entries(NEEDED)) {
        await insert(database.pool, table, { ...needed, ...HELD[table], ...free[table] });
      }
      await update(database.pool, 'escrows', UUID, { status: 'active' });
      await update(database.pool, 'users', UUID, { is_active: false });
    });
    expect(Object.keys(free)).to.include.members(['streams', 'escrows', 'disputes', 'notifications']);
    // Not vacuous: the rows caused every event there is.
    expect([...new Set(events.map(({ type }) => type))]).to.have.members(Object.keys(EVENT_TYPES));
    const text = JSON.stringify(events);
    for (const word of ['PII', 'MARKER', 'Jane', 'Roe', 'example', '192.0'])
      expect(text).not.to.include(word);
  });

  it('fits in none of the columns that travel', async () => {
    for (const [table, columns] of Object.entries(HELD)) {
      for (const column of Object.keys(columns)) {
        const refused = await update(database.pool, table, UUID, { [column]: MARKER }).then(
          () => 'accepted',
          (error: { code?: unknown }) => error.code,
        );
        expect(refused, `${table}.${column}`).to.equal('23514');
      }
    }
  });
});
