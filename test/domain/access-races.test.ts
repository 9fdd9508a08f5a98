import { expect } from 'chai';
import type pg from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { waitFor } from '../support/wait-for.ts';
import { accessLines, appendedBy, newEscrow, newParty, newStream, newUser, update } from './fixtures.ts';

const COULD_NOT_SERIALIZE = '40001';

/** Two transactions that take, or give, grounds of one person at the same time. */
describe('access events under concurrent changes', () => {
  let database: TestDatabase;
  let pool: pg.Pool;
  let jane: string;
  let escrow: string;
  let buyer: string;
  let seller: string;
  let first: pg.PoolClient;
  let second: pg.PoolClient;

  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
  });
  after(() => database.drop());

  beforeEach(async () => {
    jane = await newUser(pool);
    escrow = await newEscrow(pool);
    buyer = await newParty(pool, escrow, jane, { role: 'buyer' });
    seller = await newParty(pool, escrow, jane, { role: 'seller' });
    first = await pool.connect();
    second = await pool.connect();
  });
  afterEach(async () => {
    for (const client of [first, second]) {
      await client.query('rollback');
      client.release();
    }
  });

  const remove = (client: pg.PoolClient, id: string) =>
    client.query('delete from escrow_parties where id = $1', [id]);
  const access = async (work: () => Promise<unknown>) => accessLines(await appendedBy(pool, work));
  const revoked = () => [`revoked escrow:${escrow} on user:${jane}`];

  /** Resolves once the client's session waits for a lock that the other session holds. */
  async function blocked(client: pg.PoolClient, by: pg.PoolClient): Promise<void> {
    const [waiting, holding] = [client, by].map((c) => (c as unknown as { processID: number }).processID);
    await waitFor(
      async () => {
        const { rows } = await pool.query('select pg_blocking_pids($1) as pids', [waiting]);
        return rows[0].pids.includes(holding);
      },
      { what: 'one session to wait for the other' },
    );
  }

  /** The error code of what must fail. */
  async function failure(work: Promise<unknown>): Promise<unknown> {
    return work.then(
      () => 'no failure',
      (error: { code?: unknown }) => error.code,
    );
  }

  it('two removals that decide at the same moment: the second waits, and revokes', async () => {
    const lines = await access(async () => {
      await first.query('begin');
      await second.query('begin');
      await remove(first, buyer);
      await remove(second, seller);
      // Immediate, so that each decides while the other is still open.
      await first.query('set constraints all immediate');
      const deciding = second.query('set constraints all immediate');
      await blocked(second, first);
      await first.query('commit');
      await deciding;
      await second.query('commit');
    });
    expect(lines).to.deep.equal(revoked());
  });

  it('two removals, of which the first rolls back: nothing is revoked', async () => {
    const lines = await access(async () => {
      await first.query('begin');
      await second.query('begin');
      await remove(first, buyer);
      await remove(second, seller);
      await first.query('set constraints all immediate');
      const deciding = second.query('set constraints all immediate');
      await blocked(second, first);
      await first.query('rollback');
      await deciding;
      await second.query('commit');
    });
    expect(lines).to.deep.equal([]);
  });

  it('a creator replaced while their party row is removed: revoked once', async () => {
    await pool.query('delete from escrow_parties where id = $1', [seller]);
    const otto = await newUser(pool);
    await update(pool, 'escrows', escrow, { creator_id: jane });
    const lines = await access(async () => {
      await first.query('begin');
      await second.query('begin');
      await update(first, 'escrows', escrow, { creator_id: otto });
      await remove(second, buyer);
      await first.query('set constraints all immediate');
      const deciding = second.query('set constraints all immediate');
      await blocked(second, first);
      await first.query('commit');
      await deciding;
      await second.query('commit');
    });
    expect(lines.filter((line) => line.endsWith(jane))).to.deep.equal(revoked());
  });

  for (const level of ['repeatable read', 'serializable']) {
    const beginWithSnapshot = async (client: pg.PoolClient) => {
      await client.query(`begin isolation level ${level}`);
      await client.query('select from escrow_parties');
    };

    it(`two removals under ${level}: the one with the old snapshot fails, and revokes when tried again`, async () => {
      const lines = await access(async () => {
        await beginWithSnapshot(first);
        await beginWithSnapshot(second);
        await remove(first, buyer);
        await remove(second, seller);
        await first.query('commit');
        expect(await failure(second.query('commit'))).to.equal(COULD_NOT_SERIALIZE);
        await beginWithSnapshot(second);
        await remove(second, seller);
        await second.query('commit');
      });
      expect(lines).to.deep.equal(revoked());
    });

    it(`two removals under ${level} that decide at the same moment: the second waits, fails, and revokes when tried again`, async () => {
      const lines = await access(async () => {
        await beginWithSnapshot(first);
        await beginWithSnapshot(second);
        await remove(first, buyer);
        await remove(second, seller);
        await first.query('set constraints all immediate');
        const deciding = failure(second.query('set constraints all immediate'));
        await blocked(second, first);
        await first.query('commit');
        expect(await deciding).to.equal(COULD_NOT_SERIALIZE);
        await second.query('rollback');
        await second.query('begin');
        await remove(second, seller);
        await second.query('commit');
      });
      expect(lines).to.deep.equal(revoked());
    });

    it(`an old snapshot under ${level} overlooks no ground given meanwhile`, async () => {
      await pool.query('delete from escrow_parties where id = $1', [seller]);
      const lines = await access(async () => {
        await beginWithSnapshot(second);
        await newParty(pool, escrow, jane, { role: 'arbitrator' });
        await remove(second, buyer);
        expect(await failure(second.query('commit'))).to.equal(COULD_NOT_SERIALIZE);
        await second.query('begin');
        await remove(second, buyer);
        await second.query('commit');
      });
      expect(lines).to.deep.equal([]);
    });

    it(`an old snapshot under ${level} takes no ground for granted that went meanwhile`, async () => {
      const lines = await access(async () => {
        await beginWithSnapshot(second);
        await pool.query('delete from escrow_parties where user_id = $1', [jane]);
        await newParty(second, escrow, jane, { role: 'arbitrator' });
        expect(await failure(second.query('commit'))).to.equal(COULD_NOT_SERIALIZE);
        await second.query('begin');
        await newParty(second, escrow, jane, { role: 'arbitrator' });
        await second.query('commit');
      });
      expect(lines).to.deep.equal([...revoked(), `granted escrow:${escrow} on user:${jane}`]);
    });

    it(`a pair that the ledger does not know is not overlooked under ${level}`, async () => {
      await pool.query('delete from escrow_access where user_id = $1', [jane]);
      const lines = await access(async () => {
        await beginWithSnapshot(first);
        await beginWithSnapshot(second);
        await remove(first, buyer);
        await remove(second, seller);
        await first.query('commit');
        expect(await failure(second.query('commit'))).to.equal(COULD_NOT_SERIALIZE);
        await second.query('begin');
        await remove(second, seller);
        await second.query('commit');
      });
      expect(lines).to.deep.equal(revoked());
    });
  }

  it('payer and recipient replaced by two transactions: the wallet loses the stream with the second', async () => {
    const stream = await newStream(pool, { payer: 'ann', recipient: 'ann' });
    const lines = await access(async () => {
      await first.query('begin');
      await second.query('begin');
      await update(first, 'streams', stream, { payer: 'bob' });
      const replacing = update(second, 'streams', stream, { recipient: 'bob' });
      await blocked(second, first);
      await first.query('commit');
      await replacing;
      await second.query('commit');
    });
    expect(lines).to.deep.equal([
      `granted stream:${stream} on wallet:bob`,
      `revoked stream:${stream} on wallet:ann`,
    ]);
  });
});
