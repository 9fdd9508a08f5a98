import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { editFunction } from '../support/gate.ts';
import {
  append,
  column,
  failure,
  openSession,
  type Session,
  scalar,
  untilBlocked,
} from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

/** Where an epoch begins that is opened now: 100,000 ids for each second since 2020. */
function clockId(): number {
  return (Math.round(Date.now() / 1000) - Date.UTC(2020, 0) / 1000) * 100_000;
}
/** More than the clocks of test and database may differ. */
const MINUTE = 60 * 100_000;
const LEAP = 1_000_000_000;

describe('epochs', () => {
  let database: TestDatabase;
  let pool: Pool;
  const sessions: Session[] = [];

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    await append(pool);
  });

  afterEach(async () => {
    for (const session of sessions.splice(0)) session.end();
    await database.drop();
  });

  const epoch = () => scalar<string>(pool, 'select epoch from outbox_meta');

  it('begin far past every id that can have been given out, and tell old cursors by their number', async () => {
    const before = await epoch();
    const last = await append(pool);
    const opened = await scalar<string>(pool, 'select outbox_new_epoch()');
    expect(opened).to.not.equal(before);
    expect(opened).to.equal(await epoch());
    const firstId = await scalar<number>(pool, 'select first_id from outbox_meta');
    expect(firstId).to.be.within(clockId() - MINUTE, clockId() + MINUTE);
    expect(await scalar(pool, 'select outbox_head()'), 'a cursor of the new epoch').to.equal(firstId);
    expect((await failure(pool.query('select * from outbox_read($1)', [last]))).code).to.equal('P0002');
    const id = await append(pool);
    expect(id).to.be.above(firstId);
    expect(await column(pool, 'select id from outbox_read($1)', [firstId])).to.deep.equal([id]);
  });

  it('give no id that an earlier restore of the same backup gave: they begin at an id that the clock names', async () => {
    const backup = await scalar<number>(pool, 'select last_value from outbox_id_seq');
    await pool.query('select outbox_new_epoch()');
    for (let n = 0; n < 100; n += 1) await append(pool);
    const lost = await scalar<number>(pool, 'select last_value from outbox_id_seq');
    // The same backup once more.
    await pool.query('delete from outbox where id > $1', [backup]);
    await pool.query('update outbox_meta set first_id = 0');
    await pool.query("select setval('outbox_id_seq', $1)", [backup]);
    await waitFor(
      async () => {
        await pool.query("select outbox_new_epoch(), setval('outbox_id_seq', $1)", [backup]);
        const first = await scalar<number>(pool, 'select first_id from outbox_meta');
        await pool.query('update outbox_meta set first_id = 0');
        return first > lost;
      },
      { what: 'a second to pass' },
    );
  });

  it('begin past whatever is known already if the clock has gone back, or a copy has left the sequence behind', async () => {
    const ahead = clockId() + 60 * MINUTE;
    await pool.query('update outbox_meta set first_id = $1', [ahead]);
    await pool.query('select outbox_new_epoch()');
    expect(await scalar(pool, 'select first_id from outbox_meta')).to.equal(ahead + LEAP);
    await pool.query("select setval('outbox_id_seq', $1)", [ahead + 2 * LEAP]);
    const id = await append(pool);
    await pool.query("update outbox_meta set first_id = 0; select setval('outbox_id_seq', 5)");
    await pool.query('select outbox_new_epoch()');
    expect(await scalar(pool, 'select first_id from outbox_meta')).to.equal(id + LEAP);
  });

  it('begin only when every writer of the old ids has ended: what it commits is in the state that clients take again', async () => {
    const [writer, opener] = [await openSession(pool), await openSession(pool)];
    sessions.push(writer, opener);
    const before = await epoch();
    await writer.query('begin');
    const id = await append(writer);
    const opened = scalar(opener, 'select outbox_new_epoch()');
    await waitFor(
      () => scalar(pool, `select wait_event = 'PgSleep' from pg_stat_activity where pid = $1`, [opener.pid]),
      { what: 'the opener to wait' },
    );
    expect(await append(pool), 'later writers are not held up').to.equal(id + 1);
    expect(await epoch(), 'nobody hears of it yet').to.equal(before);
    await writer.query('commit');
    expect(await opened).to.equal(await epoch());
    expect(await column(pool, 'select id from outbox where id = $1', [id])).to.deep.equal([id]);
  });

  it('wait as well for a writer that is in flight and takes its id about the time of the leap', async () => {
    const [writer, opener] = [await openSession(pool), await openSession(pool)];
    sessions.push(writer, opener);
    const before = await epoch();
    await append(pool);
    await writer.query('begin');
    await writer.query(
      `select pg_advisory_xact_lock_shared((21335::bigint << 48) | last_value) from outbox_id_seq`,
    );
    const opened = scalar(opener, 'select outbox_new_epoch()');
    await waitFor(() => scalar(pool, 'select last_value > $1 from outbox_id_seq', [LEAP]), {
      what: 'the leap',
    });
    expect(await append(pool), 'later writers are not held up').to.be.above(LEAP);
    expect(await epoch(), 'nobody hears of it yet').to.equal(before);
    await writer.query('commit');
    expect(await opened).to.equal(await epoch());
  });

  it('are given up, not waited for without end, behind a forgotten transaction; its own events are no obstacle', async () => {
    const [writer, opener] = [await openSession(pool), await openSession(pool)];
    sessions.push(writer, opener);
    await opener.query('begin');
    await append(opener);
    await opener.query('select outbox_new_epoch()');
    await opener.query('commit');
    const before = await epoch();
    await writer.query('begin');
    await append(writer);
    await editFunction(pool, 'outbox_new_epoch', /5 seconds/, () => '50 milliseconds');
    const lastId = () => scalar(pool, 'select last_value from outbox_id_seq');
    const last = await lastId();
    const { code, message } = await failure(pool.query('select outbox_new_epoch()'));
    expect([code, message]).to.deep.equal([
      '55006',
      'a new epoch cannot begin: transactions with events are still in flight',
    ]);
    expect(await epoch()).to.equal(before);
    expect(await lastId(), 'no ids are leapt over').to.equal(last);
  });

  it('find partitions for their ids', async () => {
    await pool.query('select outbox_new_epoch()');
    await append(pool);
    expect(await column(pool, 'select id from outbox_default')).to.deep.equal([]);
  });

  it('begin without partitions if somebody reads the default one; its events go there', async () => {
    const reader = await openSession(pool);
    sessions.push(reader);
    await reader.query('begin; select from outbox_default');
    const opened = await scalar<string>(pool, 'select outbox_new_epoch()');
    expect(opened).to.equal(await epoch());
    const id = await append(pool);
    expect(await column(pool, 'select id from outbox_default')).to.deep.equal([id]);
    await reader.query('commit');
    await pool.query('select outbox_add_partitions()');
    await append(pool);
    expect(await column(pool, 'select id from outbox_default')).to.deep.equal([id]);
  });

  it('go on while the cluster and its timeline are the same', async () => {
    expect(await scalar(pool, 'select outbox_follow_epoch()')).to.equal(await epoch());
    expect(await scalar(pool, 'select first_id from outbox_meta')).to.equal(0);
  });

  for (const change of [
    'system_identifier = system_identifier + 1',
    'timeline = timeline + 1',
    "table_oid = 'outbox'::regclass",
  ]) {
    it(`begin anew, once, when the outbox finds itself elsewhere (${change.split(' ')[0]})`, async () => {
      const before = await epoch();
      await pool.query(`update outbox_meta set ${change}`);
      const opened = await scalar(pool, 'select outbox_follow_epoch()');
      expect(opened).to.not.equal(before);
      expect(await scalar(pool, 'select outbox_follow_epoch()')).to.equal(opened);
    });
  }

  it('are opened once by two instances that start together', async () => {
    await pool.query('update outbox_meta set timeline = timeline + 1');
    const [a, b] = [await openSession(pool), await openSession(pool)];
    sessions.push(a, b);
    await a.query('begin');
    const opened = await scalar(a, 'select outbox_follow_epoch()');
    const other = scalar(b, 'select outbox_follow_epoch()');
    await untilBlocked(pool, b.pid);
    await a.query('commit');
    expect(await other).to.equal(opened);
    expect(await scalar(pool, 'select first_id from outbox_meta')).to.be.below(clockId() + MINUTE);
  });
});
