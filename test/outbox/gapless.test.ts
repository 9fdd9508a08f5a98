import { expect } from 'chai';
import { Client, type Pool } from 'pg';
import { gaplessReader, readMark } from '../../src/outbox/reader.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { metric } from '../support/metrics.ts';
import { untilAsleep } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { append, column, openSession, type Session, scalar } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { makePerson } from '../support/world.ts';

describe('events that follow a cursor without a gap', () => {
  let database: TestDatabase;
  let pool: Pool;
  let writer: Session;

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    writer = await openSession(pool);
  });

  afterEach(async () => {
    writer.end();
    await database.drop();
  });

  const gapless = async (after: number, max = 100) =>
    (await gaplessReader(pool)(after, max)).events.map(({ id }) => id);
  const upToTheHorizon = (after: number) => column<number>(pool, 'select id from outbox_read($1)', [after]);

  it('end at the first id that is missing, whether it is still to come or never will', async () => {
    const [first, second] = [await append(pool), await append(pool)];
    await writer.query('begin');
    const held = await append(writer);
    const third = await append(pool);
    expect(await gapless(0)).to.deep.equal([first, second]);
    expect(await gapless(second), 'nothing past a writer that has an id').to.deep.equal([]);
    await writer.query('commit');
    expect(await gapless(second)).to.deep.equal([held, third]);
    await writer.query('begin');
    await append(writer);
    await writer.query('rollback');
    const fourth = await append(pool);
    expect(await gapless(0), 'an id that was rolled back').to.deep.equal([first, second, held, third]);
    expect(await gapless(third)).to.deep.equal([]);
    expect(await upToTheHorizon(third), 'which the horizon passes').to.deep.equal([fourth]);
    expect(await gapless(0, 3)).to.deep.equal([first, second, held]);
  });

  it('cannot be overtaken by a writer in flight, so they are read although the horizon hides them', async () => {
    await append(pool);
    // In flight, and about to take an id, which is higher than all that have been taken.
    await writer.query('begin');
    await writer.query(
      "select pg_advisory_xact_lock_shared((21335::bigint << 48) | pg_sequence_last_value('outbox_id_seq'))",
    );
    const later = await append(pool);
    expect(await upToTheHorizon(later - 1)).to.deep.equal([]);
    expect(await gapless(later - 1)).to.deep.equal([later]);
    const last = await append(writer);
    expect(last).to.equal(later + 1);
    expect(await gapless(later)).to.deep.equal([]);
    await writer.query('commit');
    expect(await gapless(later)).to.deep.equal([last]);
  });

  it('come with the mark and the times of what was read, not of what lies behind the gap', async () => {
    const [first, second] = [await append(pool), await append(pool)];
    await writer.query('begin');
    await append(writer);
    await writer.query('rollback');
    await append(pool);
    const { events, mark, lagSeconds } = await gaplessReader(pool)(0, 100);
    expect(events.map(({ id }) => id)).to.deep.equal([first, second]);
    expect(mark).to.equal(await readMark(pool, second));
    expect(lagSeconds?.first).to.be.at.least(lagSeconds?.last ?? Number.POSITIVE_INFINITY);
    expect(await gaplessReader(pool)(second, 100)).to.deep.equal({
      events: [],
      mark: undefined,
      lagSeconds: undefined,
    });
  });

  it('are found by one plan and with no rights but the service has, whatever partitions come and go', async () => {
    const service = new Client({ connectionString: database.serviceUrl });
    await service.connect();
    try {
      const read = gaplessReader(service);
      const ids = async (after: number) => (await read(after, 100)).events.map(({ id }) => id);
      const appended = async (many: number) => {
        const made: number[] = [];
        while (made.length < many) made.push(await append(pool));
        return made;
      };
      const partitions = () =>
        column<string>(
          pool,
          "select inhrelid::regclass::text from pg_inherits where inhparent = 'outbox'::regclass",
        );
      const early = await appended(6);
      for (const id of early) expect(await ids(id - 1)).to.deep.equal(early.slice(early.indexOf(id)));

      // Beyond 32 bits, where no partition is ready; then in new ones, each of five ids.
      const far = 2 ** 33;
      await pool.query('update outbox_meta set partition_ids = 5');
      await pool.query("select setval('outbox_id_seq', $1)", [far]);
      const caught = await appended(3);
      expect(await ids(far), 'in the default partition').to.deep.equal(caught);
      expect(await scalar(pool, 'select outbox_add_partitions()')).to.be.above(0);
      const rest = await appended(12);
      expect(await ids(far), 'in partitions that the plan did not know').to.deep.equal([...caught, ...rest]);

      await pool.query('alter table outbox detach partition outbox_p1000000');
      const before = await partitions();
      expect(await scalar(pool, "select outbox_drop_partitions(now() + interval '1 day')")).to.be.above(0);
      expect(await partitions()).to.have.length.below(before.length);
      const last = (await appended(1)).at(-1) ?? 0;
      expect(await ids(last - 1)).to.deep.equal([last]);
      expect(await ids(0), 'nothing is left of them').to.deep.equal([]);

      // The last ids that there are.
      const end = 2 ** 48 - 3;
      await pool.query("select setval('outbox_id_seq', $1)", [end]);
      const final = await appended(2);
      expect(await ids(end))
        .to.deep.equal([end + 1, end + 2])
        .and.to.deep.equal(final);
      expect(
        await column(
          service,
          "select custom_plans from pg_prepared_statements where name = 'outbox_read_gapless'",
        ),
        'plans for one cursor',
      ).to.deep.equal(['0']);
      expect(await scalar(service, 'show plan_cache_mode')).to.equal('force_generic_plan');
      expect(await scalar(service, 'show jit'), 'compiling a read of a few rows').to.equal('off');
    } finally {
      await service.end();
    }
  });

  it('are handed on by a relay that is rung before it has looked for writers', async () => {
    const admin = await makePerson(pool, 1, 'ADMIN');
    const service = await startService(database.url, { SAFETY_POLL_MS: '600000' });
    const client = await (await SseClient.open(`${service.url}/v1/events`, admin.token)).caughtUp();
    try {
      await untilAsleep(service);
      const cursor = await scalar<number>(pool, 'select outbox_head()');
      await writer.query('begin');
      await writer.query('select pg_advisory_xact_lock_shared((21335::bigint << 48) | $1::bigint)', [cursor]);
      const id = await append(pool);
      await client.received(1);
      expect(client.ids).to.deep.equal([id]);
      expect(await scalar(pool, 'select outbox_horizon()'), 'held back all the while').to.equal(cursor);
      expect(await metric(service, 'settlewire_cursor')).to.equal(id);
      await writer.query('rollback');
      await untilAsleep(service);
    } finally {
      client.close();
      await service.stop();
    }
  });
});
