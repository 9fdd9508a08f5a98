import { expect } from 'chai';
import fc from 'fast-check';
import { normalWallet, parseTopic, TopicError } from '../../src/access/topics.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

function outcome(text: string): string {
  try {
    return parseTopic(text);
  } catch (error) {
    if (error instanceof TopicError) return 'refused';
    throw error;
  }
}

const STELLAR = `G${'A2'.repeat(27)}B`;
const wallets = fc.oneof(
  fc.stringMatching(/^[A-Za-z0-9_.-]{1,60}$/),
  fc.stringMatching(/^0[xX][0-9a-fA-F]{39,41}$/),
  fc.stringMatching(/^[gG][a-zA-Z2-7]{54,56}$/),
);

describe('a topic', () => {
  let database: TestDatabase;
  before(async () => {
    database = await createTestDatabase();
  });
  after(() => database.drop());

  it('has one form', () => {
    const uuid = 'ABCDEF00-1111-2222-3333-444455556666';
    expect(outcome(`stream:${uuid}`)).to.equal(`stream:${uuid.toLowerCase()}`);
    expect(outcome(`escrow:${uuid.toLowerCase()}`)).to.equal(`escrow:${uuid.toLowerCase()}`);
    expect(outcome('user:not-a-uuid'), 'merely cannot exist').to.equal('user:not-a-uuid');
    expect(outcome(`wallet:0X${'AB'.repeat(20)}`)).to.equal(`wallet:0x${'ab'.repeat(20)}`);
    expect(outcome(`wallet:${STELLAR.toLowerCase()}`)).to.equal(`wallet:${STELLAR}`);
    expect(outcome('wallet:7xKXtg2CW87d97TXJSDpbD5jBkheTqA83TZRuJosgAsU')).to.equal(
      'wallet:7xKXtg2CW87d97TXJSDpbD5jBkheTqA83TZRuJosgAsU',
    );
  });

  for (const text of [
    ...['', ':', 'stream', 'stream:', ':x', 'Stream:x', 'streams:x', 'stream :x', 'stream: x', ' stream:x'],
    ...[
      'stream:x:y',
      'stream:x\n',
      'stream:x\r\nid: 5',
      'stream:x\0',
      'stream:é',
      'stream:x/y',
      'stream:*',
      '*',
    ],
    ...[
      'access:x',
      '__proto__:x',
      'constructor:x',
      `stream:${'x'.repeat(129)}`,
      'wallet:',
      "wallet:'; drop table users",
    ],
  ]) {
    it(`is not ${JSON.stringify(text.slice(0, 40))}`, () => {
      expect(outcome(text)).to.equal('refused');
    });
  }

  it('is refused or of its grammar, and its own form stays as it is', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc
        .tuple(fc.constantFrom('stream', 'escrow', 'user', 'wallet', 'x'), fc.string({ unit: 'binary' }))
        .map((p) => p.join(':')),
      fc.tuple(fc.constantFrom('stream', 'wallet'), wallets).map((parts) => parts.join(':')),
    );
    fc.assert(
      fc.property(text, (topic) => {
        const normal = outcome(topic);
        if (normal === 'refused') return;
        expect(normal).to.match(/^(stream|escrow|user|wallet):[A-Za-z0-9_.-]{1,128}$/);
        expect(normal.toLowerCase()).to.equal(topic.toLowerCase());
        expect(outcome(normal)).to.equal(normal);
      }),
      { numRuns: 500 },
    );
  });

  it('of a wallet has the same form here as in the database', async () => {
    const addresses = fc.sample(wallets, 500);
    const { rows } = await database.pool.query<{ address: string; normal: string }>(
      'select address, wallet_normal(address) as normal from unnest($1::text[]) address',
      [addresses],
    );
    for (const { address, normal } of rows) expect(normalWallet(address), address).to.equal(normal);
    expect(rows.filter(({ address, normal }) => address !== normal)).to.have.length.greaterThan(20);
  });
});
