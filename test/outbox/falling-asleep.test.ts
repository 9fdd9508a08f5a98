import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type Gate, gateFunction, makeGate, runToGate } from '../support/gate.ts';
import { append, openSession, type Session, scalar } from '../support/session.ts';

const KEY = '21336::bigint << 48';

/** Found by the model: mutant LAST_VALUE_ONCE of test/model/outbox.pml. */
describe('a read by a relay that falls asleep', () => {
  let database: TestDatabase;
  let gate: Gate;
  let writer: Session;
  let relay: Session;

  beforeEach(async () => {
    database = await createTestDatabase();
    const { pool } = database;
    gate = await makeGate(pool);
    writer = await openSession(pool);
    relay = await openSession(pool);
    // Between the look at the sequence and the look at the locks.
    await gateFunction(pool, 'outbox_bound', /select min\(/, gate);
    await gate.shut();
  });

  afterEach(async () => {
    for (const end of [gate?.end, writer?.end, relay?.end]) end?.();
    await database?.drop();
  });

  const readBatch = () =>
    runToGate(database.pool, relay, 'select id, in_flight from outbox_read_batch(0, 100)');

  it('tells of a writer that nobody made ring and that ended between its two looks', async () => {
    await writer.query('begin');
    const first = await append(writer);
    expect(await scalar(relay, `select pg_try_advisory_lock_shared(${KEY})`)).to.equal(true);

    const { done } = await readBatch();
    await append(writer);
    await writer.query('commit');
    await gate.open();

    expect(await done, 'the second event is unread, so the relay must not wait for a ring').to.deep.equal([
      [first, null],
      [null, true],
    ]);
  });

  it('tells of no writer when there was none', async () => {
    const first = await append(writer);
    const { done } = await readBatch();
    await gate.open();
    expect(await done).to.deep.equal([
      [first, null],
      [null, false],
    ]);
  });
});
