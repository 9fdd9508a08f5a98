import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'chai';
import type { Pool } from 'pg';
import type { Service } from '../../src/service.ts';
import { BlackHole } from '../support/black-hole.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { metric } from '../support/metrics.ts';
import { untilAsleep, untilReads } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { append, openSession, type Session, scalar } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, outboxIds, type Person } from '../support/world.ts';

const LISTEN = /^settlewire listen$/;
/** Awake at once, and for as long as anything is appended. */
const BUSY = { SAFETY_POLL_MS: '600000', WAKE_RINGS_PER_SECOND: '5', SLEEP_EVENTS_PER_SECOND: '1' };

describe('polls while events flow', () => {
  let database: TestDatabase;
  let pool: Pool;
  let service: Service | undefined;
  let proxy: BlackHole | undefined;
  let admin: Person;
  const sessions: Session[] = [];
  const ends: (() => Promise<void>)[] = [];

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    admin = await makePerson(pool, 1, 'ADMIN');
  });

  afterEach(async () => {
    await Promise.all(ends.splice(0).map((end) => end()));
    for (const session of sessions.splice(0)) session.end();
    await service?.stop();
    await proxy?.stop();
    [service, proxy] = [undefined, undefined];
    await database.drop();
  });

  async function session(): Promise<Session> {
    const opened = await openSession(pool);
    sessions.push(opened);
    return opened;
  }

  /** Writers that append one event after the other; the relay has woken up. */
  async function flow(
    writers: number,
    settings: Record<string, string> = {},
    url = database.url,
  ): Promise<Service> {
    const started = await startService(url, { ...BUSY, ...settings });
    service = started;
    // Until a listener has been heard it polls, however long the interval is.
    await untilAsleep(started, 30_000);
    for (let n = 0; n < writers; n += 1) {
      const writer = await session();
      let over = false;
      const writing = (async () => {
        while (!over) {
          await append(writer);
          // So that no poll is a full one, which would be followed by the next at once.
          await delay(1);
        }
      })();
      ends.push(async () => {
        over = true;
        await writing;
      });
    }
    await waitFor(async () => (await metric(started, 'settlewire_relay_asleep')) === 0, {
      what: 'the relay to wake up',
      timeoutMs: 30_000,
    });
    return started;
  }

  const reads = async (of: Service) => metric(of, 'settlewire_relay_reads');
  const looks = async (of: Service) => metric(of, 'settlewire_relay_looks');
  const passedBy = async (of: Service) => (await reads(of)) - (await looks(of));

  it('read what follows without a gap, and look for writers only now and then', async () => {
    const start = await scalar<number>(pool, 'select outbox_head()');
    const running = await flow(1);
    const client = await SseClient.open(`${running.url}/v1/events`, admin.token, {
      'Last-Event-ID': String(start),
    });
    ends.push(async () => client.close());
    const before = await passedBy(running);
    await waitFor(async () => (await passedBy(running)) > before + 50, {
      what: 'polls that do not look at the locks',
    });
    // Ids that never appear and ids that come late: both are gaps, and only the first kind is passed.
    const stranger = await session();
    for (let n = 0; n < 20; n += 1) {
      await stranger.query('begin');
      await append(stranger);
      const behind = await append(pool);
      if (n % 2 === 0) {
        await untilReads(running, 3);
        expect(client.ids, 'what lies behind a writer in flight').not.to.include(behind);
      }
      await stranger.query(n % 4 < 2 ? 'rollback' : 'commit');
    }
    await Promise.all(ends.splice(0, 1).map((end) => end()));
    const all = await outboxIds(pool, undefined, start);
    await client.received(all.length);
    expect(client.ids).to.deep.equal(all);
  });

  it('still look, however long events flow', async () => {
    const running = await flow(3, { POLL_INTERVAL_MS: '20' });
    const [read, looked] = [await reads(running), await looks(running)];
    await waitFor(async () => (await reads(running)) > read + 60, { what: '60 reads' });
    // One in six at this interval, if each poll finds something; more on a slow machine.
    expect(((await looks(running)) - looked) * 10).to.be.above((await reads(running)) - read);
  });

  it('are no more than one in an interval', async () => {
    const running = await flow(1, { POLL_INTERVAL_MS: '30' });
    const read = await reads(running);
    const startedAt = performance.now();
    // Time is the subject: however slow the machine, a second has room for so many.
    await delay(1000);
    const made = (await reads(running)) - read;
    expect(made).to.be.at.most(Math.ceil((performance.now() - startedAt) / 30) + 2);
  });

  it('that take long leave the database alone for as long', async () => {
    proxy = await BlackHole.before(database.url);
    const running = await flow(1, { POLL_INTERVAL_MS: '50' }, proxy.url);
    proxy.moveAway(/^settlewire relay$/, 40);
    await untilReads(running, 2);
    const startedAt = performance.now();
    const read = await reads(running);
    await untilReads(running, 20);
    const made = (await reads(running)) - read;
    // 80 ms from one to the next; without the rest it would be 50.
    expect(performance.now() - startedAt).to.be.at.least((made - 1) * 75);
  });

  it('rest for an interval at most, however long they take', async () => {
    proxy = await BlackHole.before(database.url);
    const running = await flow(1, { POLL_INTERVAL_MS: '20' }, proxy.url);
    proxy.moveAway(/^settlewire relay$/, 300);
    await untilReads(running, 2);
    const gapsMs: number[] = [];
    for (let n = 0; n < 9; n += 1) {
      const startedAt = performance.now();
      await untilReads(running, 1);
      gapsMs.push(performance.now() - startedAt);
    }
    // 320 ms; otherwise it would be 600.
    expect(gapsMs.sort((a, b) => a - b)[4]).to.be.below(480);
  });

  it('that wait in line come less often, up to a bound, and as often as before when they do not', async () => {
    proxy = await BlackHole.before(database.url);
    const running = await flow(1, { POLL_INTERVAL_MS: '10', MAX_POLL_INTERVAL_MS: '60' }, proxy.url);
    const interval = () => metric(running, 'settlewire_relay_poll_interval_seconds');
    proxy.moveAway(/^settlewire relay$/, 30);
    await waitFor(async () => (await interval()) === 0.06, { what: 'the longest interval' });
    const read = await reads(running);
    const startedAt = performance.now();
    await untilReads(running, 10);
    const made = (await reads(running)) - read;
    expect(performance.now() - startedAt).to.be.at.least((made - 1) * 55);
    proxy.moveAway(/^settlewire relay$/, 0);
    await waitFor(async () => (await interval()) < 0.06, { what: 'a shorter interval' });
    // The same for polls that all look for writers.
    proxy.refuse(LISTEN);
    await waitFor(async () => (await metric(running, 'settlewire_relay_mode{mode="deaf"}')) === 1, {
      what: 'the relay to find out',
    });
    proxy.moveAway(/^settlewire relay$/, 30);
    await waitFor(async () => (await interval()) === 0.06, { what: 'the longest interval, deaf' });
  });

  it('come as often from a database far away', async () => {
    proxy = await BlackHole.before(database.url);
    proxy.moveAway(/^settlewire relay$/, 100);
    const settings = { POLL_INTERVAL_MS: '200', MAX_POLL_INTERVAL_MS: '2000' };
    const running = await flow(1, settings, proxy.url);
    await untilReads(running, 12);
    // What each poll takes is more than an eighth of the interval: if that counted it would be above 500 ms.
    expect(await metric(running, 'settlewire_relay_poll_interval_seconds')).to.be.below(0.3);
    // Another session, from farther away still, is not measured by what was quick for this one.
    proxy.moveAway(/^settlewire relay$/, 200);
    await pool.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'settlewire relay'",
    );
    await waitFor(async () => (await metric(running, 'settlewire_relay_reconnects')) > 0, {
      what: 'another session',
    });
    await untilReads(running, 15);
    expect(await metric(running, 'settlewire_relay_poll_interval_seconds')).to.be.below(0.3);
  });

  it('keep nobody waiting who stops the relay in the middle of one', async () => {
    proxy = await BlackHole.before(database.url);
    const running = await flow(1, { POLL_INTERVAL_MS: '5000', RELAY_TIMEOUT_MS: '60000' }, proxy.url);
    proxy.swallow({ application: /^settlewire relay$/, direction: 'to-client', late: true });
    await waitFor(() => proxy?.holds('settlewire relay') === true, {
      what: 'a poll whose answer is kept back',
    });
    const stopped = running.stop();
    // Nothing tells when the relay is asked to stop: the service first closes what is open, for a second at most.
    await delay(1500);
    proxy.heal();
    const startedAt = performance.now();
    await stopped;
    expect(performance.now() - startedAt, 'less than an interval').to.be.below(4500);
  });

  it('keep nobody waiting who stops the relay between two', async () => {
    const running = await flow(1, { POLL_INTERVAL_MS: '5000' });
    const startedAt = performance.now();
    await running.stop();
    expect(performance.now() - startedAt, 'less than an interval').to.be.below(4500);
  });

  it('look each time while nobody listens, and no longer when somebody does again, also under load', async () => {
    proxy = await BlackHole.before(database.url);
    const running = await flow(1, {}, proxy.url);
    await waitFor(async () => (await passedBy(running)) > 10, {
      what: 'polls that do not look at the locks',
    });
    proxy.refuse(LISTEN);
    await waitFor(async () => (await metric(running, 'settlewire_relay_mode{mode="deaf"}')) === 1, {
      what: 'the relay to find out',
    });
    const before = await passedBy(running);
    await untilReads(running, 50);
    // Counted while it reads, so one or two may lie between.
    expect(await passedBy(running)).to.be.at.most(before + 2);
    proxy.heal();
    // It is tried at once: nobody waits for a quiet second.
    await waitFor(async () => (await passedBy(running)) > before + 10, {
      what: 'polls that do not look at the locks again',
      timeoutMs: 20_000,
    });
    expect(await metric(running, 'settlewire_relay_mode{mode="polling"}')).to.equal(1);
  });
});
