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
    expect(firstId).to.equal(last + LEAP);
    expect(await scalar(pool, 'select outbox_head()'), 'a cursor of the new epoch').to.equal(firstId);
    expect((await failure(pool.query('select * from outbox_read($1)', [last]))).code).to.equal('P0002');
    const id = await append(pool);
    expect(id).to.be.above(firstId);
    expect(await column(pool, 'select id from outbox_read($1)', [firstId])).to.deep.equal([id]);
  });

  it('begin only when every writer of the old ids has ended: what it commits is in the state that clients take again', async () => {
    const [writer, opener] = [await openSession(pool), await openSession(pool)];
    sessions.push(writer, opener);
    const before = await epoch();
    await writer.query('begin');
    const id = await append(writer);
    const opened = scalar(opener, 'select outbox_new_epoch()');
    await waitFor(() => scalar(pool, 'select last_value > $1 from outbox_id_seq', [LEAP]), {
      what: 'the leap',
    });
    expect(await append(pool), 'later writers are not held up').to.be.above(LEAP);
    expect(await epoch(), 'nobody hears of it yet').to.equal(before);
    await writer.query('commit');
    expect(await opened).to.equal(await epoch());
    expect(await column(pool, 'select id from outbox where id = $1', [id])).to.deep.equal([id]);
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
    const { code, message } = await failure(pool.query('select outbox_new_epoch()'));
    expect([code, message]).to.deep.equal([
      '55006',
      'a new epoch cannot begin: transactions with events are still in flight',
    ]);
    expect(await epoch()).to.equal(before);
  });

  it('find partitions for their ids', async () => {
    await pool.query('select outbox_new_epoch()');
    await pool.query('select outbox_add_partitions()');
    await append(pool);
    expect(await column(pool, 'select id from outbox_default')).to.deep.equal([]);
  });

  it('go on while the cluster and its timeline are the same', async () => {
    expect(await scalar(pool, 'select outbox_follow_epoch()')).to.equal(await epoch());
    expect(await scalar(pool, 'select first_id from outbox_meta')).to.equal(0);
  });

  for (const change of ['system_identifier = system_identifier + 1', 'timeline = timeline + 1']) {
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
    expect(await scalar(pool, 'select first_id from outbox_meta')).to.be.below(2 * LEAP);
  });
});
