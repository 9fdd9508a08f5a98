import { expect } from 'chai';
import type { Pool } from 'pg';
import { type Page, readPage } from '../../src/outbox/reader.ts';
import { Replayer } from '../../src/outbox/replayer.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { append, openSession, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

const EVENTS = 20;

describe('outbox_replay', () => {
  let database: TestDatabase;
  let pool: Pool;

  // Ids 1 to 20; even ones are of test:even, multiples of five of test:five instead, the others of test:odd.
  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    for (let id = 1; id <= EVENTS; id += 1)
      await append(pool, `{"n":${id}}`, id % 5 === 0 ? 'test:five' : id % 2 === 0 ? 'test:even' : 'test:odd');
  });

  after(() => database.drop());

  function page(
    topics: readonly string[] | 'all',
    after: number,
    through: number,
    maxEvents = 100,
    maxBytes = 1_000_000,
  ): Promise<Page> {
    return readPage(pool, topics, after, through, { maxEvents, maxBytes });
  }

  const idsOf = ({ events }: Page) => events.map(({ id }) => id);

  it('gives the events of some topics between two cursors, in order, whatever the order of the topics', async () => {
    expect(idsOf(await page(['test:five', 'test:even'], 4, 12))).to.deep.equal([5, 6, 8, 10, 12]);
    expect(idsOf(await page(['test:even', 'test:five'], 4, 12))).to.deep.equal([5, 6, 8, 10, 12]);
  });

  it('gives all topics when asked for all', async () => {
    expect(idsOf(await page('all', 4, 8))).to.deep.equal([5, 6, 7, 8]);
  });

  it('excludes the cursor and includes the end', async () => {
    expect(idsOf(await page('all', 5, 5))).to.deep.equal([]);
    expect(idsOf(await page('all', 4, 5))).to.deep.equal([5]);
  });

  it('is complete to the end that was asked for, even where the topics have nothing', async () => {
    expect(await page(['test:unknown'], 0, 12)).to.deep.include({ events: [], reached: 12 });
    expect(await page([], 0, 12)).to.deep.include({ events: [], reached: 12 });
    expect((await page(['test:odd'], 0, 12)).reached).to.equal(12);
  });

  it('ends after so many events and says how far it came', async () => {
    const first = await page(['test:five', 'test:even'], 0, EVENTS, 3);
    expect([idsOf(first), first.reached]).to.deep.equal([[2, 4, 5], 5]);
    const exact = await page(['test:five'], 0, EVENTS, 4);
    expect([idsOf(exact), exact.reached]).to.deep.equal([[5, 10, 15, 20], 20]);
  });

  it('ends with the event that exceeds so many bytes', async () => {
    const bytes = '{"n":1}'.length;
    const two = await page('all', 0, EVENTS, 100, bytes + 1);
    expect([idsOf(two), two.reached]).to.deep.equal([[1, 2], 2]);
    const one = await page('all', 0, EVENTS, 100, 1);
    expect([idsOf(one), one.reached]).to.deep.equal([[1], 1]);
  });

  for (const [kind, others] of [
    ['few', 0],
    ['more', 20],
  ] as const)
    it(`gives the whole past of ${kind} topics page by page, nothing twice and nothing skipped`, async () => {
      const topics = ['test:odd', 'test:five', ...Array.from({ length: others }, (_, n) => `test:none_${n}`)];
      for (const [maxEvents, maxBytes] of [
        [1, 1e6],
        [3, 1e6],
        [7, 20],
        [100, 1],
      ] as const) {
        const ids: number[] = [];
        let cursor = 0;
        while (cursor < EVENTS) {
          const next = await page(topics, cursor, EVENTS, maxEvents, maxBytes);
          expect(next.reached).to.be.above(cursor);
          ids.push(...idsOf(next));
          cursor = next.reached;
        }
        expect(ids).to.deep.equal([1, 3, 5, 7, 9, 10, 11, 13, 15, 17, 19, 20]);
      }
    });

  it('crosses partitions', async () => {
    const own = await createTestDatabase();
    try {
      // Ids 0 to 999,999 are the first partition's, whatever the next ones span.
      await own.pool.query("select setval('outbox_id_seq', 999997)");
      for (let i = 0; i < 5; i += 1) await append(own.pool);
      for (const topics of ['all', ['test:a']] as const) {
        const read = await readPage(own.pool, topics, 999_990, 1_000_002, { maxEvents: 10, maxBytes: 1e6 });
        expect(idsOf(read)).to.deep.equal([999_998, 999_999, 1_000_000, 1_000_001, 1_000_002]);
      }
    } finally {
      await own.drop();
    }
  });

  it('of hundreds of topics, many events or few, gives the same page by page, also where a slice of ids has none of theirs', async () => {
    const own = await createTestDatabase();
    try {
      // Ids 50 apart, of 600 topics in no order; in the middle a stretch of others alone.
      await own.pool.query(`
        insert into outbox (id, topic, type, data, txid, created_at)
        select n * 50, case when n between 1000 and 2000 then 'test:other' else 'test:' || abs(hashint4(n)) % 600 end,
               'test:event', '{}', pg_current_xact_id(), now()
          from generate_series(1, 3000) n`);
      const topics = Array.from({ length: 300 }, (_, n) => `test:${n}`);
      const through = 3000 * 50;
      for (const start of [0, 40_000, 49_999, 50_000, 75_000, 149_000]) {
        const { rows } = await own.pool.query<{ id: number }>(
          'select id from outbox where id > $1 and topic = any ($2) order by id',
          [start, topics],
        );
        for (const maxEvents of [7, 100, 2000]) {
          const ids: number[] = [];
          let cursor = start;
          while (cursor < through) {
            const next = await readPage(own.pool, topics, cursor, through, { maxEvents, maxBytes: 1e6 });
            expect(next.reached).to.be.above(cursor);
            expect(next.events.length).to.be.at.most(maxEvents);
            ids.push(...idsOf(next));
            cursor = next.reached;
          }
          expect(ids, `${maxEvents} from ${start}`).to.deep.equal(rows.map(({ id }) => id));
        }
      }
    } finally {
      await own.drop();
    }
  });

  it('of many topics with many events reads the events in their order, not each topic for itself', async () => {
    const own = await createTestDatabase();
    const session = await openSession(own.pool);
    try {
      await own.pool.query(`
        insert into outbox (id, topic, type, data, txid, created_at)
        select n, 'test:' || n % 400, 'test:event', '{}', pg_current_xact_id(), now() from generate_series(1, 20000) n`);
      const reads = async (count: number): Promise<number> => {
        const topics = Array.from({ length: count }, (_, n) => `test:${n}`);
        const rows = () =>
          scalar<number>(
            session,
            `select pg_stat_get_xact_tuples_returned(c.oid) from pg_class c where c.relname = 'outbox_p0_topic_id_idx'`,
          );
        await session.query('begin');
        const before = await rows();
        await session.query('select outbox_replay($1, 0, 20000, 100, 1000000)', [topics]);
        const read = (await rows()) - before;
        await session.query('rollback');
        return read;
      };
      expect(await reads(100), 'by topic: each topic’s').to.be.at.least(100 * 50);
      expect(await reads(400), 'by id: enough to know that there are many').to.be.at.most(2 * 100 + 50);
    } finally {
      session.end();
      await own.drop();
    }
  });

  it('of few topics reads what it returns from the index by topic alone, and no more of a busy topic than a page', async () => {
    const own = await createTestDatabase();
    const session = await openSession(own.pool);
    try {
      await own.pool.query(`
        insert into outbox (id, topic, type, data, txid, created_at)
        select n, case when n % 4 = 0 then 'test:busy' else 'test:other' end, 'test:event', '{}', pg_current_xact_id(), now()
          from generate_series(1, 8000) n`);
      const read = (index: string) =>
        scalar<number>(
          session,
          `select pg_stat_get_xact_tuples_returned(c.oid) from pg_class c where c.relname = '${index}'`,
        );
      await session.query('begin');
      await session.query('select outbox_replay($1, 4000, 8000, 100, 1000000)', [
        ['test:busy', 'test:quiet', 'test:never'],
      ]);
      expect(await read('outbox_p0_topic_id_idx')).to.be.within(100, 101);
      expect(await read('outbox_p0_pkey')).to.equal(0);
      await session.query('rollback');
    } finally {
      session.end();
      await own.drop();
    }
  });

  it('is read a few pages at a time; the others wait their turn', async () => {
    const replayer = new Replayer({ db: pool, concurrency: 2, pageEvents: 10, pageBytes: 1e6 });
    const locker = await openSession(pool);
    try {
      await locker.query('begin; lock table outbox in access exclusive mode');
      const replays = [1, 2, 3, 4].map((after) => replayer.page('all', after, EVENTS));
      await waitFor(() => replayer.waiting === 2, { what: 'two replays to wait for their turn' });
      expect(replayer.pages).to.equal(2);
      await locker.query('rollback');
      const pages = await Promise.all(replays);
      expect(pages.map((page) => page.events[0]?.id)).to.deep.equal([2, 3, 4, 5]);
      expect(replayer.pages).to.equal(4);
    } finally {
      locker.end();
    }
  });
});
