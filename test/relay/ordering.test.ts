import { expect } from 'chai';
import type { Pool } from 'pg';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type Gate, gateStreamCommits, makeGate, runToGate } from '../support/gate.ts';
import { NaiveReader } from '../support/naive-reader.ts';
import { untilReads } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { openSession, type Session } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';

const RAISE_RATE = 'update streams set rate_per_second = rate_per_second + 1 where id = $1';

describe('a subscriber, while one writer overtakes another', () => {
  let database: TestDatabase;
  let pool: Pool;
  let gate: Gate;
  let service: Service;
  let payer: Person;
  let stream: string;
  let another: string;
  let client: SseClient;
  let a: Session;
  let start: number;

  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    gate = await makeGate(pool);
    await gateStreamCommits(pool, gate);
    payer = await makePerson(pool, 1);
    const recipient = await makePerson(pool, 2);
    stream = await makeStream(pool, payer, recipient);
    another = await makeStream(pool, payer, recipient);
    service = await startService(database.url, { SAFETY_POLL_MS: '600000' });
  });

  after(async () => {
    await service.stop();
    gate.end();
    await database.drop();
  });

  // A has an id and waits in its COMMIT; B has the next one and has committed; the relay has been rung and has looked twice.
  beforeEach(async () => {
    client = await (await SseClient.open(`${service.url}/v1/events`, payer.token)).caughtUp();
    start = (await outboxIds(pool)).at(-1) ?? 0;
    a = await openSession(pool);
    await gate.shut();
  });

  afterEach(() => {
    client.close();
    a.end();
  });

  async function overtake(): Promise<{ done: Promise<unknown> }> {
    await a.query('begin');
    await a.query(RAISE_RATE, [stream]);
    const commit = await runToGate(pool, a, 'commit');
    await pool.query(RAISE_RATE, [another]);
    await untilReads(service, 3);
    return commit;
  }

  it('gets nothing past the first, then both in order when it commits', async () => {
    const naive = new NaiveReader(pool, start);
    const { done } = await overtake();
    const naiveIds = await naive.read();
    expect(client.ids).to.deep.equal([]);
    await gate.open();
    await done;
    await client.received(2);
    expect(client.ids).to.deep.equal([start + 1, start + 2]);
    expect(client.events.map(({ data }) => data['streamId'])).to.deep.equal([stream, another]);
    expect([...naiveIds, ...(await naive.read())], 'a reader with id > cursor').to.deep.equal([start + 2]);
  });

  it('gets the second alone when the first rolls back', async () => {
    const { done } = await overtake();
    expect(client.ids).to.deep.equal([]);
    await pool.query('select pg_cancel_backend($1)', [a.pid]);
    await done.catch(() => {});
    await gate.open();
    await client.received(1);
    expect(client.ids).to.deep.equal([start + 2]);
    expect(await outboxIds(pool, undefined, start)).to.deep.equal([start + 2]);
  });

  it('starts, if it comes meanwhile, at the last event that was read, and gets both', async () => {
    const { done } = await overtake();
    const late = await (await SseClient.open(`${service.url}/v1/events`, payer.token)).caughtUp();
    expect((await late.message('session')).data['cursor']).to.equal(start);
    await gate.open();
    await done;
    await late.received(2);
    expect(late.ids).to.deep.equal([start + 1, start + 2]);
    late.close();
  });
});
