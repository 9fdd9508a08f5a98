import { expect } from 'chai';
import { escrowMoves } from '../src/demo/escrow-moves.ts';
import { startMarket } from '../src/demo/market.ts';
import { pick } from '../src/demo/move.ts';
import { seedDemo } from '../src/demo/seed.ts';
import { streamMoves } from '../src/demo/stream-moves.ts';
import { createTestDatabase, type TestDatabase } from './support/database.ts';
import { waitFor } from './support/wait-for.ts';

describe('the demo’s moves', () => {
  let database: TestDatabase;
  beforeEach(async () => {
    database = await createTestDatabase();
  });
  afterEach(() => database.drop());

  async function play(name: string, random: () => number): Promise<void> {
    const move = [...escrowMoves, ...streamMoves].find((it) => it.name === name);
    if (!move) throw new Error(`there is no move "${name}"`);
    const client = await database.pool.connect();
    try {
      await move.play(client, random);
    } finally {
      client.release();
    }
  }

  const rowsOf = async (query: string) => (await database.pool.query(query)).rows;

  for (const move of [...streamMoves, ...escrowMoves].filter((it) => !it.name.startsWith('open ')))
    it(`"${move.name}" leaves a database alone that has nothing to do it to`, async () => {
      await play(move.name, () => 0.5);
      expect(await rowsOf('select count(*)::int as n from outbox')).to.deep.equal([{ n: 0 }]);
    });

  for (const [chance, outcome, status] of [
    [0, 'refunded_to_buyer', 'cancelled'],
    [0.5, 'split', 'completed'],
    [0.99, 'released_to_seller', 'completed'],
  ] as const)
    it(`a dispute can be ${outcome.replaceAll('_', ' ')}, which leaves its escrow ${status}`, async () => {
      await seedDemo(database.pool);
      await play('review dispute', () => 0);
      await play('resolve dispute', () => chance);
      expect(
        await rowsOf('select d.outcome, e.status from disputes d join escrows e on e.id = d.escrow_id'),
      ).to.deep.equal([{ outcome, status }]);
    });

  it('an invitation that is turned down cancels the escrow', async () => {
    await seedDemo(database.pool);
    await play('answer invitation', () => 0.95);
    const cancelled = `select count(*)::int as n from escrows e join escrow_parties p on p.escrow_id = e.id
                        where e.status = 'cancelled' and p.status = 'rejected'`;
    expect(await rowsOf(cancelled)).to.deep.equal([{ n: 1 }]);
  });

  it('a seed that is refused half-way leaves nothing behind, so that the next one loads everything', async () => {
    await database.pool.query(`alter table escrows add constraint refused check (title <> 'Demo escrow')`);
    const error = await seedDemo(database.pool).catch((reason: unknown) => reason);
    expect(error).to.have.property('constraint', 'refused');
    const loaded =
      'select (select count(*)::int from users) as users, (select count(*)::int from streams) as streams';
    expect(await rowsOf(loaded)).to.deep.equal([{ users: 0, streams: 0 }]);
    await database.pool.query('alter table escrows drop constraint refused');
    await seedDemo(database.pool);
    expect(await rowsOf(loaded)).to.deep.equal([{ users: 6, streams: 11 }]);
  });

  it('a source of randomness that gives more than it may is reported by the market and refused by a pick', async () => {
    const errors: unknown[] = [];
    const log = { info: () => {}, warn: ({ err }: { err: unknown }) => void errors.push(err) };
    const market = startMarket({ pool: database.pool, intervalMs: 1, random: () => 2, log });
    await waitFor(() => errors.length > 0, { what: 'the market to report' });
    await market.stop();
    expect(errors[0]).to.be.instanceOf(RangeError);
    expect(() => pick(['only'], () => 1)).to.throw(RangeError, 'below 1');
  });
});
