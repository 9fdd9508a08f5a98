import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  appendedBy,
  event,
  insert,
  inTransaction,
  newEscrow,
  newParty,
  newUser,
  update,
  withoutAccess,
} from './fixtures.ts';

const T1 = '2030-01-02T03:04:05.678Z';
const T2 = '2030-02-03T04:05:06.789Z';

describe('escrow events', () => {
  let database: TestDatabase;
  before(async () => {
    database = await createTestDatabase();
  });
  after(() => database.drop());

  const changes = async (work: () => Promise<unknown>) =>
    withoutAccess(await appendedBy(database.pool, work));

  it('a changed status is an event; a new escrow and other columns are not', async () => {
    let id = '';
    const events = await changes(async () => {
      id = await newEscrow(database.pool);
      await update(database.pool, 'escrows', id, {
        title: 'x',
        description: 'y',
        released_amount: '5',
        funded_at: T1,
      });
      await update(database.pool, 'escrows', id, { status: 'pending' });
      await update(database.pool, 'escrows', id, {
        status: 'active',
        transaction_hash: 'abc',
        updated_at: T1,
      });
    });
    expect(events).to.deep.equal([
      event('escrow:status_changed', `escrow:${id}`, id, 'pending', 'active', 'abc', T1),
    ]);
  });

  it('two status changes in one transaction are two events, in order', async () => {
    const id = await newEscrow(database.pool);
    const events = await changes(() =>
      inTransaction(database.pool, async (client) => {
        await update(client, 'escrows', id, { status: 'active', updated_at: T1 });
        await update(client, 'escrows', id, { status: 'disputed', updated_at: T2 });
      }),
    );
    expect(events).to.deep.equal([
      event('escrow:status_changed', `escrow:${id}`, id, 'pending', 'active', null, T1),
      event('escrow:status_changed', `escrow:${id}`, id, 'active', 'disputed', null, T2),
    ]);
  });

  it("a condition that becomes released is a milestone, with the escrow's total", async () => {
    const escrow_id = await newEscrow(database.pool);
    const id = await insert(database.pool, 'escrow_conditions', {
      escrow_id,
      amount: '2.5',
      description: 'x',
    });
    const events = await changes(() =>
      inTransaction(database.pool, async (client) => {
        await update(client, 'escrow_conditions', id, { is_fulfilled: true, is_met: true });
        await update(client, 'escrow_conditions', id, { is_released: true, released_at: T1, tx_hash: 'abc' });
        await update(client, 'escrow_conditions', id, { is_released: true, description: 'y' });
        await update(client, 'escrows', escrow_id, { released_amount: '42' });
      }),
    );
    expect(events).to.deep.equal([
      event(
        'escrow:milestone_released',
        `escrow:${escrow_id}`,
        escrow_id,
        id,
        '2.5000000',
        'USDC',
        '42.0000000',
        'abc',
        T1,
      ),
    ]);
  });

  it('a condition recorded as released is a milestone, one that is not is none', async () => {
    const escrow_id = await newEscrow(database.pool);
    const events = await changes(async () => {
      await insert(database.pool, 'escrow_conditions', { escrow_id, amount: '1' });
      await insert(database.pool, 'escrow_conditions', { escrow_id, is_released: true });
    });
    expect(events.map(({ type, data }) => [type, data['amount']])).to.deep.equal([
      ['escrow:milestone_released', null],
    ]);
  });

  it('a dispute is filed by a role, not by a person', async () => {
    const creator = await newUser(database.pool);
    const party = await newUser(database.pool);
    const stranger = await newUser(database.pool);
    for (const [filer, role] of [
      [creator, 'creator'],
      [party, 'seller'],
      [stranger, null],
    ] as const) {
      const escrow_id = await newEscrow(database.pool, { creator_id: creator });
      await newParty(database.pool, escrow_id, party, { role: 'buyer', status: 'rejected' });
      await newParty(database.pool, escrow_id, party, { role: 'arbitrator' });
      await newParty(database.pool, escrow_id, party, { role: 'seller' });
      let id = '';
      const events = await changes(async () => {
        id = await insert(database.pool, 'disputes', { escrow_id, filed_by_user_id: filer, reason: 'r' });
      });
      expect(events).to.deep.equal([
        event('escrow:dispute_filed', `escrow:${escrow_id}`, escrow_id, id, role, 'open'),
      ]);
    }
  });

  it('a dispute is resolved once; one recorded as resolved is filed, then resolved', async () => {
    const filed_by_user_id = await newUser(database.pool);
    const first = await newEscrow(database.pool);
    const id = await insert(database.pool, 'disputes', { escrow_id: first, filed_by_user_id });
    const resolution = {
      status: 'resolved',
      outcome: 'split',
      seller_percent: 60,
      buyer_percent: '40',
      resolved_at: T1,
    };
    const resolved = await changes(async () => {
      await update(database.pool, 'disputes', id, { status: 'under_review' });
      await update(database.pool, 'disputes', id, resolution);
      await update(database.pool, 'disputes', id, { ...resolution, reason: 'x' });
    });
    expect(resolved).to.deep.equal([
      event('escrow:dispute_resolved', `escrow:${first}`, first, id, 'split', '60.00', '40.00', T1),
    ]);

    const escrow_id = await newEscrow(database.pool);
    const both = await changes(() =>
      insert(database.pool, 'disputes', { escrow_id, filed_by_user_id, ...resolution }),
    );
    expect(both.map(({ type }) => type)).to.deep.equal(['escrow:dispute_filed', 'escrow:dispute_resolved']);
  });

  it('a party joins by accepting, not by being invited or rejecting', async () => {
    const escrow_id = await newEscrow(database.pool);
    const user = await newUser(database.pool);
    let id = '';
    const events = await changes(async () => {
      id = await newParty(database.pool, escrow_id, user);
      await update(database.pool, 'escrow_parties', id, { status: 'rejected' });
      await update(database.pool, 'escrow_parties', id, { status: 'accepted', responded_at: T1 });
      await update(database.pool, 'escrow_parties', id, { status: 'accepted', responded_at: T2 });
    });
    expect(events).to.deep.equal([
      event('escrow:party_joined', `escrow:${escrow_id}`, escrow_id, id, 'buyer', 'accepted', T1),
    ]);
  });

  it('a party recorded as accepted has joined, after being granted the escrow', async () => {
    const escrow_id = await newEscrow(database.pool);
    const user = await newUser(database.pool);
    const events = await appendedBy(database.pool, () =>
      newParty(database.pool, escrow_id, user, { status: 'accepted' }),
    );
    expect(events.map(({ type }) => type)).to.deep.equal(['access:granted', 'escrow:party_joined']);
  });
});
