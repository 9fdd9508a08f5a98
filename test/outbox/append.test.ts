import { expect } from 'chai';
import type { Pool } from 'pg';
import { migrate } from '../../src/migrate.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { append, column, failure, openSession, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

const HIGHEST_ID = 2 ** 48;

describe('an appended event', () => {
  let database: TestDatabase;
  let pool: Pool;

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
  });

  afterEach(() => database.drop());

  const stored = (id: number) => scalar<string>(pool, 'select data::text from outbox where id = $1', [id]);
  const asDelivered = (id: number) => scalar<string>(pool, 'select data from outbox_read($1, 1)', [id - 1]);

  it('has the id 1 if it is the first: the sequence has been called once, keeps none back, and stays below 2^48', async () => {
    const { rows } = await pool.query(
      "select cache_size, max_value, min_value, increment_by, cycle, last_value from pg_sequences where sequencename = 'outbox_id_seq'",
    );
    expect(rows).to.deep.equal([
      {
        cache_size: 1,
        max_value: HIGHEST_ID - 1,
        min_value: 0,
        increment_by: 1,
        cycle: false,
        last_value: 0,
      },
    ]);
    expect(await append(pool)).to.equal(1);
  });

  it('can have the highest id below 2^48, and none above it', async () => {
    await pool.query(`select setval('outbox_id_seq', ${HIGHEST_ID - 2})`);
    const id = await append(pool);
    expect(id).to.equal(HIGHEST_ID - 1);
    expect(await scalar(pool, 'select outbox_horizon()')).to.equal(id);
    const writer = await openSession(pool);
    try {
      await writer.query('begin');
      expect((await failure(append(writer).then(() => append(writer)))).code).to.match(/^(2200H|22003)$/);
    } finally {
      writer.end();
    }
  });

  it('gets its id from the append alone: outbox.id has no default', async () => {
    const insert = `insert into outbox (topic, type, data, txid, created_at)
                    values ('test:a', 'test:event', '{}', pg_current_xact_id(), now())`;
    expect((await failure(pool.query(insert))).code).to.equal('23502');
    expect(
      await column(
        pool,
        "select attname from pg_attribute where attrelid = 'outbox'::regclass and atthasdef",
      ),
    ).to.deep.equal([]);
  });

  it('is replaced by its size when it exceeds the limit, in bytes, and never refused', async () => {
    const limit = await scalar<number>(pool, 'select outbox_max_event_bytes()');
    expect(limit).to.equal(16_384);
    const ofBytes = (bytes: number) => `"${'é'.repeat((bytes - 2) / 2)}"`;
    const largest = await append(pool, ofBytes(limit));
    expect(await stored(largest)).to.equal(ofBytes(limit));
    const tooLarge = await append(pool, ofBytes(limit + 2));
    expect(await stored(tooLarge)).to.equal(`{"oversize":true,"bytes":${limit + 2}}`);
  });

  it('has a limit that the owner may change', async () => {
    await pool.query(
      'create or replace function outbox_max_event_bytes() returns integer language sql immutable return 10',
    );
    expect(await stored(await append(pool, '{"a":"0123456789"}'))).to.equal('{"oversize":true,"bytes":18}');
  });

  it('is one line: line breaks outside strings become spaces, those inside are escaped already', async () => {
    const id = await append(pool, '{\r\n  "a":\n"b\\r\\nc",\r"d": 1\n}');
    expect(await asDelivered(id)).to.equal('{    "a": "b\\r\\nc", "d": 1 }');
  });

  it('is never parsed again on its way: big numbers, key order, duplicates and spacing survive as text', async () => {
    const text = '{"z":123456789012345678901234567890.10, "a" :1e400,"a":9007199254740993}';
    expect(await asDelivered(await append(pool, text))).to.equal(text);
  });

  it('is refused with a topic or a type out of the grammar', async () => {
    const insert = (topic: string, type: string) =>
      failure(pool.query("select outbox_append($1, $2, '{}')", [topic, type]));
    for (const topic of [
      'a',
      'a:',
      ':a',
      'A:b',
      'a:b c',
      'a:b\n',
      'a:é',
      `a:${'b'.repeat(129)}`,
      'a:b:c',
      '*',
    ])
      expect((await insert(topic, 'test:event')).code, topic).to.equal('23514');
    for (const type of ['a', 'a:', ':a', 'A:b', 'a:B', 'a:b c', 'a:b\n', 'a:b1', 'session', 'caught-up'])
      expect((await insert('test:a', type)).code, type).to.equal('23514');
  });

  it('says which transaction it came with', async () => {
    const writer = await openSession(pool);
    try {
      await writer.query('begin');
      const ids = [await append(writer), await append(writer)];
      const txid = await scalar(writer, 'select pg_current_xact_id()::text');
      await writer.query('commit');
      expect(await column(pool, 'select txid::text from outbox where id = any ($1)', [ids])).to.deep.equal([
        txid,
        txid,
      ]);
    } finally {
      writer.end();
    }
  });

  it('lives in the only outbox of its database: a second one, which would share its locks, is refused', async () => {
    await pool.query('create schema second');
    const url = new URL(database.url);
    url.searchParams.set('options', '-c search_path=second');
    const { message } = await failure(migrate({ connectionString: url.href, set: 'outbox' }));
    expect(message).to.contain('a database can have only one');
    expect(await scalar(pool, "select to_regclass('second.outbox')")).to.equal(null);
  });

  it('is rung for only while somebody sleeps', async () => {
    const sleeper = await openSession(pool);
    const listener = await pool.connect();
    try {
      const heard: string[] = [];
      listener.on('notification', ({ channel }) => heard.push(channel));
      await listener.query('listen outbox; listen fence');
      const rings = async (work: () => Promise<unknown>) => {
        heard.length = 0;
        await work();
        // Notifications arrive in the order of their commits.
        await pool.query("select pg_notify('fence', '')");
        await waitFor(() => heard.includes('fence'), { what: 'the fence' });
        return heard.includes('outbox');
      };
      expect(await rings(() => append(pool)), 'nobody asleep').to.equal(false);
      await sleeper.query('select pg_advisory_lock_shared(21336::bigint << 48)');
      expect(await rings(() => append(pool)), 'asleep').to.equal(true);
      expect(await rings(() => append(sleeper)), "the sleeper's own append: it must have none").to.equal(
        false,
      );
      await sleeper.query('select pg_advisory_unlock_shared(21336::bigint << 48)');
      expect(await rings(() => append(pool)), 'awake again').to.equal(false);
    } finally {
      sleeper.end();
      listener.release(true);
    }
  });
});
