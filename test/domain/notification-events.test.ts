import { randomUUID } from 'node:crypto';
import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { appendedBy, event, insert, newEscrow, newUser, update } from './fixtures.ts';

const T1 = '2030-01-02T03:04:05.678Z';
const T2 = '2030-02-03T04:05:06.789Z';

describe('notification events', () => {
  let database: TestDatabase;
  let user_id: string;
  before(async () => {
    database = await createTestDatabase();
    user_id = await newUser(database.pool);
  });
  after(() => database.drop());

  const notify = (row: Record<string, unknown>) =>
    insert(database.pool, 'notifications', { user_id, event_type: 'escrow.funded', created_at: T1, ...row });

  it('a new notification travels with the listed keys of its payload', async () => {
    const escrow_id = await newEscrow(database.pool);
    const [stream, condition, dispute, settlement] = Array.from({ length: 4 }, () => randomUUID());
    const details = {
      streamId: stream,
      conditionId: condition,
      disputeId: dispute,
      settlementId: settlement,
    };
    const txHash = `0x${'ab'.repeat(32)}`;
    // As text: a JavaScript number would lose what must not be lost.
    const payload = JSON.stringify({
      ...details,
      asset: 'USDC',
      txHash,
      status: 'x',
      title: 'Hello',
    }).replace('{', '{"amount":12345678901234567890.1234567,');
    let id = '';
    const events = await appendedBy(database.pool, async () => {
      id = await notify({ escrow_id, payload });
    });
    const shown = [stream, condition, dispute, settlement, '12345678901234567890.1234567', 'USDC', txHash];
    expect(events).to.deep.equal([
      event('notification:new', `user:${user_id}`, id, escrow_id, 'escrow.funded', 'pending', T1, ...shown),
    ]);
  });

  for (const [what, payload] of [
    ['none', null],
    ['a list', ['jane@example.org']],
    ['a string', '"jane@example.org"'],
    ['other keys', { email: 'jane@example.org', name: 'Jane Roe', streamid: randomUUID() }],
    [
      'objects and lists under listed keys',
      { amount: { a: 1 }, asset: ['USDC'], txHash: true, streamId: null },
    ],
    [
      'words under listed keys',
      {
        streamId: 'Jane-Roe',
        conditionId: 'jane@example.org',
        disputeId: `${randomUUID()}\njane`,
        settlementId: 'x',
        amount: '+49 151 555',
        asset: 'Jane Roe',
        txHash: 'Jane.Roe',
      },
    ],
  ] as const) {
    it(`a payload of ${what} adds nothing`, async () => {
      const text = typeof payload === 'string' ? payload : payload && JSON.stringify(payload);
      const events = await appendedBy(database.pool, () => notify({ payload: text }));
      const { id, ...rest } = events[0]?.data ?? {};
      const nothing = [null, null, null, null, null, null, null];
      const { id: _, ...expected } = event(
        'notification:new',
        '',
        '',
        null,
        'escrow.funded',
        'pending',
        T1,
        ...nothing,
      ).data;
      expect(id).to.be.a('string');
      expect(rest).to.deep.equal(expected);
    });
  }

  it('reading one is an event; marking it sent, or unread again, is none', async () => {
    const id = await notify({});
    const events = await appendedBy(database.pool, async () => {
      await update(database.pool, 'notifications', id, { status: 'sent' });
      await update(database.pool, 'notifications', id, { read_at: T1 });
      await update(database.pool, 'notifications', id, { read_at: T1 });
      await update(database.pool, 'notifications', id, { read_at: null });
      await update(database.pool, 'notifications', id, { read_at: T2 });
    });
    expect(events).to.deep.equal([
      event('notification:read', `user:${user_id}`, id, T1),
      event('notification:read', `user:${user_id}`, id, T2),
    ]);
  });

  it('one recorded as read is new, then read', async () => {
    const events = await appendedBy(database.pool, () => notify({ read_at: T2 }));
    expect(events.map(({ type }) => type)).to.deep.equal(['notification:new', 'notification:read']);
  });
});
