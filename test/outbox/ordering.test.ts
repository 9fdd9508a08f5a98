import { expect } from 'chai';
import type { Pool } from 'pg';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  type Gate,
  gateFunction,
  gateNextId,
  gateStreamCommits,
  makeGate,
  runToGate,
} from '../support/gate.ts';
import { NaiveReader, OutboxReader, type Reader } from '../support/naive-reader.ts';
import { append, column, openSession, type Session, scalar } from '../support/session.ts';
import { makePerson, makeStream } from '../support/world.ts';

const RAISE_RATE = 'update streams set rate_per_second = rate_per_second + 1 where id = $1';

describe('the order of events', () => {
  let database: TestDatabase;
  let pool: Pool;
  let gate: Gate;
  let stream: string;
  let another: string;
  const sessions: Session[] = [];

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    gate = await makeGate(pool);
    await gateStreamCommits(pool, gate);
    const [payer, recipient] = [await makePerson(pool, 1), await makePerson(pool, 2)];
    stream = await makeStream(pool, payer, recipient);
    another = await makeStream(pool, payer, recipient);
  });

  afterEach(async () => {
    for (const session of sessions.splice(0)) session.end();
    gate.end();
    await database.drop();
  });

  async function session(): Promise<Session> {
    const opened = await openSession(pool);
    sessions.push(opened);
    return opened;
  }

  const head = () => scalar<number>(pool, 'select outbox_head()');

  /** A takes an id and waits in its COMMIT; B takes the next one and commits; the reader reads; A ends; the reader reads. */
  async function overtake(reader: Reader, outcome: 'commits' | 'rolls back') {
    const start = await head();
    const a = await session();
    await gate.shut();
    await a.query('begin');
    await a.query(RAISE_RATE, [stream]);
    const { done } = await runToGate(pool, a, 'commit');
    await pool.query(RAISE_RATE, [another]);
    const meanwhile = await reader.read();
    if (outcome === 'rolls back') {
      await pool.query('select pg_cancel_backend($1)', [a.pid]);
      await done.catch(() => {});
    }
    await gate.open();
    await done.catch(() => {});
    // Postgres says that it gives up before it has let go: the next answer comes after both.
    await a.query('select');
    const afterwards = await reader.read();
    const committed = await column<number>(pool, 'select id from outbox where id > $1 order by id', [start]);
    return { start, meanwhile, afterwards, committed };
  }

  it('gives a reader nothing past a writer that has an id and has not committed, then both, in order', async () => {
    const { start, meanwhile, afterwards, committed } = await overtake(
      new OutboxReader(pool, await head()),
      'commits',
    );
    expect(meanwhile).to.deep.equal([]);
    expect(afterwards).to.deep.equal([start + 1, start + 2]);
    expect(afterwards).to.deep.equal(committed);
  });

  it('passes over the id of a writer that rolled back', async () => {
    const { start, meanwhile, afterwards, committed } = await overtake(
      new OutboxReader(pool, await head()),
      'rolls back',
    );
    expect(meanwhile).to.deep.equal([]);
    expect(afterwards).to.deep.equal([start + 2]);
    expect(afterwards).to.deep.equal(committed);
  });

  it('is lost by a reader that goes on from the highest id it saw: the scenario is a real one', async () => {
    const { start, meanwhile, afterwards, committed } = await overtake(
      new NaiveReader(pool, await head()),
      'commits',
    );
    expect(meanwhile).to.deep.equal([start + 2]);
    expect(afterwards).to.deep.equal([]);
    expect(committed).to.deep.equal([start + 1, start + 2]);
  });

  it('holds for constraints set immediate in an open transaction', async () => {
    const reader = new OutboxReader(pool, await head());
    const a = await session();
    await a.query('begin');
    await a.query(RAISE_RATE, [stream]);
    await a.query('set constraints all immediate');
    await pool.query(RAISE_RATE, [another]);
    expect(await reader.read()).to.deep.equal([]);
    await a.query('commit');
    expect(await reader.read()).to.have.length(2);
  });

  it('holds nobody up while a transaction is merely open: ids are taken at commit', async () => {
    const reader = new OutboxReader(pool, await head());
    const a = await session();
    await a.query('begin');
    await a.query(RAISE_RATE, [stream]);
    await a.query("select outbox_publish('test:a', 'test:event', '{}')");
    await pool.query(RAISE_RATE, [another]);
    expect(await reader.read()).to.have.length(1);
    await a.query('commit');
    expect(await reader.read()).to.have.length(2);
  });

  it('keeps the order of two changes to one row by two writers', async () => {
    const start = await head();
    const [a, b] = [await session(), await session()];
    await gate.shut();
    await a.query('begin');
    await a.query("update streams set status = 'paused' where id = $1", [stream]);
    const first = await runToGate(pool, a, 'commit');
    const second = await runToGate(pool, b, `update streams set status = 'ended' where id = '${stream}'`);
    await gate.open();
    await Promise.all([first.done, second.done]);
    const statuses = await column(pool, "select data::json ->> 'status' from outbox_read($1)", [start]);
    expect(statuses).to.deep.equal(['paused', 'ended']);
  });

  it('marks a writer in flight before it takes its id, with a key below that id', async () => {
    await gateNextId(pool, /nextval\([^)]*\)/g, gate);
    const a = await session();
    await gate.shut();
    const { done } = await runToGate(pool, a, "select outbox_append('test:a', 'test:event', '{}')");
    const mark = await scalar<number>(pool, 'select horizon from outbox_inflight where pid = $1', [a.pid]);
    const overtaking = await append(pool);
    expect(mark).to.be.below(overtaking);
    expect(await scalar(pool, 'select outbox_horizon()')).to.equal(mark);
    await gate.open();
    expect((await done)[0]?.[0]).to.equal(overtaking + 1);
  });

  it('reads the sequence before the locks: a writer that begins between the two is not overlooked', async () => {
    // The gate stands before whichever of the two looks comes second.
    await gateFunction(pool, 'outbox_bound', /(?<=(l :=|into m\b)[\s\S]*)(l :=|select min\()/, gate);
    const start = await head();
    const [reader, a] = [await session(), await session()];
    await gate.shut();
    const { done } = await runToGate(pool, reader, 'select id from outbox_read($1)', [start]);
    await a.query('begin');
    await append(a);
    await append(pool);
    await gate.open();
    expect(await done).to.deep.equal([]);
    await a.query('commit');
    expect(await column(pool, 'select id from outbox_read($1)', [start])).to.deep.equal([
      start + 1,
      start + 2,
    ]);
  });

  it('reads the rows with a snapshot taken after the horizon', async () => {
    await gateFunction(pool, 'outbox_bound', /if pg_is_in_recovery/, gate);
    const start = await head();
    const [reader, a] = [await session(), await session()];
    await a.query('begin');
    await append(a);
    await append(pool);
    await gate.shut();
    const { done } = await runToGate(pool, reader, 'select id from outbox_read($1)', [start]);
    await a.query('commit');
    await gate.open();
    expect(await done).to.deep.equal([[start + 1], [start + 2]]);
  });

  it('is lost when the horizon and the rows come from one statement, as the comment on outbox_horizon() says', async () => {
    await gateFunction(pool, 'outbox_bound', /if pg_is_in_recovery/, gate);
    const start = await head();
    const [reader, a] = [await session(), await session()];
    await a.query('begin');
    await append(a);
    await append(pool);
    await gate.shut();
    const { done } = await runToGate(
      pool,
      reader,
      `with bound as materialized (select outbox_horizon() as horizon)
       select o.id from outbox o, bound where o.id > $1 and o.id <= bound.horizon order by o.id`,
      [start],
    );
    await a.query('commit');
    await gate.open();
    expect(await done, 'the later id without the earlier one').to.deep.equal([[start + 2]]);
    const comment = await scalar<string>(pool, "select obj_description('outbox_horizon'::regproc)");
    expect(comment).to.match(/EARLIER statement than the read/);
  });
});
