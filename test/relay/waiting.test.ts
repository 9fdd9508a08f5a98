import { getEventListeners } from 'node:events';
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises';
import { expect } from 'chai';
import { Client } from 'pg';
import { pino } from 'pino';
import { Doorbell } from '../../src/relay/doorbell.ts';
import { newStats, type RelayStats } from '../../src/relay/stats.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { failure, openSession, type Session, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

/** Nothing but what the test does ends a wait. */
const NEVER_MS = 600_000;

describe('a relay that waits for a ring', () => {
  let database: TestDatabase;
  let client: Client;
  let doorbell: Doorbell;
  let stats: RelayStats;
  let ringer: Session;
  let stop: AbortController;

  beforeEach(async () => {
    database = await createTestDatabase();
    client = new Client({ connectionString: database.url, application_name: 'settlewire relay' });
    stats = newStats();
    stop = new AbortController();
    doorbell = new Doorbell(client, {
      connectionString: database.url,
      timeoutMs: 10_000,
      log: pino({ level: 'silent' }),
      stats,
    });
    await client.connect();
    ringer = await openSession(database.pool);
    doorbell.open();
    await waitFor(
      async () => {
        await doorbell.fallAsleep();
        return doorbell.asleep;
      },
      { what: 'the key' },
    );
    // The sessions of the test before are given so long to end: their timers are not those that are counted.
    await delay(300);
  });

  afterEach(async () => {
    await doorbell.close();
    await client.end().catch(() => {});
    ringer.end();
    await database.drop();
  });

  async function ring(): Promise<void> {
    await ringer.query("select pg_notify('outbox', '')");
  }

  const wait = (ms = NEVER_MS) => doorbell.wait(ms, stop.signal);

  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  /** What keeps the process, or a stopped relay, from being done with. */
  const leftovers = () => [timers(), getEventListeners(stop.signal, 'abort').length];
  /** What there is before; the runner's own timer begins after a test's first turn. */
  async function quiet(): Promise<number[]> {
    doorbell.answer();
    await turn();
    return leftovers();
  }

  it('is woken by each ring, and leaves no timer and no listener behind', async () => {
    const before = await quiet();
    for (let n = 1; n <= 3; n += 1) {
      const waiting = wait();
      expect(getEventListeners(stop.signal, 'abort')).to.have.length(1);
      await ring();
      await waiting;
      expect(leftovers()).to.deep.equal(before);
      expect(doorbell.answer(), 'there was a ring').to.equal(true);
      expect(doorbell.answer(), 'which is answered once').to.equal(false);
    }
    expect(doorbell.asleep).to.equal(true);
  });

  it('does not wait if the ring came since it was answered, however many there were', async () => {
    doorbell.answer();
    const { rings } = stats;
    await ring();
    await ring();
    await waitFor(() => stats.rings === rings + 2, { what: 'the rings' });
    const before = leftovers();
    await wait();
    await wait();
    expect(leftovers()).to.deep.equal(before);
    expect(doorbell.answer()).to.equal(true);
    expect(doorbell.answer()).to.equal(false);
  });

  it('is ended by a stop, before it waits and while it does, together with a ring and without one', async () => {
    const before = await quiet();
    const waiting = wait();
    stop.abort();
    await waiting;
    await wait();
    expect(leftovers()).to.deep.equal(before);
    expect(doorbell.answer(), 'nobody rang').to.equal(false);
    expect(doorbell.asleep, 'it did not go on to ring itself').to.equal(true);

    stop = new AbortController();
    const another = wait();
    const { rings } = stats;
    await ring();
    stop.abort();
    await another;
    await waitFor(() => stats.rings > rings, { what: 'the ring' });
    expect(leftovers()).to.deep.equal(before);
    expect(doorbell.answer(), 'a ring that the stop has overtaken is not lost').to.equal(true);
  });

  it('lets go of the key and rings itself after a quiet interval, and waits no less the next time', async () => {
    const before = await quiet();
    const { rings } = stats;
    await wait(1);
    expect(doorbell.asleep).to.equal(false);
    await waitFor(() => stats.rings === rings + 1, { what: 'its own ring' });
    expect(leftovers()).to.deep.equal(before);
    await doorbell.fallAsleep();
    expect(doorbell.answer()).to.equal(true);
    const waiting = wait();
    await ring();
    await waiting;
    expect(leftovers()).to.deep.equal(before);
    expect(doorbell.asleep, 'woken by the ring, not by the interval').to.equal(true);
  });

  it('is woken by the loss of its listener, and does not sleep until another one is heard', async () => {
    doorbell.answer();
    const waiting = wait();
    await scalar(
      ringer,
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'settlewire listen' and datname = current_database()",
    );
    await waiting;
    expect(stats.listenLosses).to.equal(1);
    await doorbell.fallAsleep();
    expect(doorbell.answer(), 'what was missed may have been a ring').to.equal(true);
    expect(doorbell.answer()).to.equal(!doorbell.hears);
    expect(getEventListeners(stop.signal, 'abort')).to.have.length(0);
    await waitFor(
      async () => {
        await doorbell.fallAsleep();
        return doorbell.asleep;
      },
      { what: 'the key, taken anew' },
    );
    doorbell.answer();
    doorbell.answer();
    const again = wait();
    await ring();
    await again;
  });

  it('fails when the session that holds the key is lost, while it waits and before', async () => {
    const before = await quiet();
    const waiting = failure(wait());
    await scalar(
      ringer,
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'settlewire relay' and datname = current_database()",
    );
    expect((await waiting).code).to.equal('57P01');
    await client.end();
    expect((await failure(wait())).code, 'nothing more will tell of the loss').to.equal('57P01');
    expect(leftovers()).to.deep.equal(before);
  });
});
