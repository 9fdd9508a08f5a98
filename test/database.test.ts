import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from './support/database.ts';
import { scalar } from './support/session.ts';

describe('a bigint from the database', () => {
  let database: TestDatabase;

  before(async () => {
    database = await createTestDatabase();
  });

  after(() => database.drop());

  it('is a number where that is exact, and its digits where it is not', async () => {
    const read = (digits: string) => scalar(database.pool, `select '${digits}'::bigint`);
    expect(await read('9007199254740991')).to.equal(9007199254740991);
    expect(await read('9007199254740993')).to.equal('9007199254740993');
    expect(await read('-9223372036854775808')).to.equal('-9223372036854775808');
  });
});
