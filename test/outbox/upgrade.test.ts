import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { migrate } from '../../src/migrate.ts';
import { newStream } from '../domain/fixtures.ts';
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts';
import { column, openSession, type Session } from '../support/session.ts';

const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url));
const OWNER = 'owner_before';
const UPDATE = {
  name: 'settle',
  text: 'update streams set last_settled_at = clock_timestamp() where id = $1',
};

describe('an upgrade from 0013', () => {
  let database: TestDatabase;
  let before: string;
  let writer: Session | undefined;
  beforeEach(async () => {
    database = await createEmptyDatabase();
    before = await mkdtemp(join(tmpdir(), 'settlewire-migrations-'));
    for (const name of await readdir(MIGRATIONS))
      if (name < '0014') await cp(join(MIGRATIONS, name), join(before, name));
  });
  afterEach(async () => {
    writer?.end();
    await database.drop();
    await rm(before, { recursive: true });
  });

  const told = () =>
    column<string>(database.pool, `select topic from outbox where type = 'stream:updated' order by id`);

  it('stops no writer: neither one who knows the plans of before, nor one who has appended and goes on', async () => {
    await migrate({ connectionString: database.url, set: 'all', directory: before });
    const id = await newStream(database.pool);
    writer = await openSession(database.pool);
    for (let n = 0; n < 10; n += 1) await writer.query({ ...UPDATE, values: [id] });
    await writer.query('begin; set constraints all immediate');
    await writer.query({ ...UPDATE, values: [id] });
    expect((await migrate({ connectionString: database.url, set: 'all' })).applied).to.include(
      '0014_outbox_cheaper_append',
    );
    await writer.query({ ...UPDATE, values: [id] });
    await writer.query('commit');
    await writer.query({ ...UPDATE, values: [id] });
    expect(await told()).to.deep.equal(Array(1 + 10 + 2 + 1).fill(`stream:${id}`));
  });

  it('by somebody else than the owner of before leaves the owner all that writing takes', async () => {
    await database.pool.query(`drop role if exists ${OWNER}; create role ${OWNER};
      grant create, usage on schema public to ${OWNER}`);
    try {
      const asOwner = new URL(database.url);
      asOwner.searchParams.set('options', `-c role=${OWNER}`);
      await migrate({ connectionString: asOwner.href, set: 'all', directory: before });
      await migrate({ connectionString: database.url, set: 'all' });
      writer = await openSession(database.pool);
      await writer.query(`set role ${OWNER}`);
      const id = await newStream(writer);
      await writer.query('begin');
      for (let n = 0; n < 2; n += 1) await writer.query({ ...UPDATE, values: [id] });
      await writer.query('commit');
      expect(await told()).to.deep.equal(Array(3).fill(`stream:${id}`));
    } finally {
      writer?.end();
      await database.pool.query(`drop owned by ${OWNER} cascade; drop role ${OWNER}`);
    }
  });
});
