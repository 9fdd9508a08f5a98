import { expect } from 'chai';
import type { Pool } from 'pg';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { editFunction } from '../support/gate.ts';
import { metric } from '../support/metrics.ts';
import { untilAsleep, untilReads } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { append, column, openSession, type Session, scalar } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, outboxIds, type Person } from '../support/world.ts';

const DOORBELL = '21336::bigint << 48';
/** No safety poll comes to the rescue within a test. */
const NEVER = { SAFETY_POLL_MS: '600000' };

describe('the doorbell', () => {
  let database: TestDatabase;
  let pool: Pool;
  let service: Service;
  let admin: Person;
  /** The admin's own events come before it. */
  let start: number;
  const sessions: Session[] = [];
  const clients: SseClient[] = [];

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    admin = await makePerson(pool, 1, 'ADMIN');
    start = await scalar<number>(pool, 'select outbox_head()');
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    for (const session of sessions.splice(0)) session.end();
    await service.stop();
    await database.drop();
  });

  async function session(): Promise<Session> {
    const opened = await openSession(pool);
    sessions.push(opened);
    return opened;
  }

  async function subscribe(): Promise<SseClient> {
    const client = await SseClient.open(`${service.url}/v1/events`, admin.token);
    clients.push(client);
    return client.caughtUp();
  }

  /** Sessions of the relay that hold the doorbell key. */
  const sleepers = () =>
    column<string>(
      pool,
      `select a.application_name from pg_locks l join pg_stat_activity a on a.pid = l.pid
        where l.locktype = 'advisory' and l.objsubid = 1 and l.classid::bigint >> 16 = 21336 and l.granted
          and l.mode = 'ShareLock' and a.datname = current_database()`,
    );

  it('wakes a sleeping relay: each event comes without a poll', async () => {
    service = await startService(database.url, NEVER);
    const client = await subscribe();
    for (let n = 1; n <= 20; n += 1) {
      await untilAsleep(service);
      await append(pool);
      await client.received(n);
    }
    expect(client.ids).to.deep.equal(await outboxIds(pool, undefined, start));
    expect(await metric(service, 'settlewire_relay_rings')).to.be.at.least(20);
  });

  it('is held by one session of the relay, which never appends and writes nothing at all', async () => {
    service = await startService(database.url, NEVER);
    const client = await subscribe();
    await untilAsleep(service);
    expect(await sleepers()).to.deep.equal(['settlewire relay']);
    // Were the relay's own backend to append, nobody would be woken: a session does not conflict with itself.
    const pids = await column<number>(
      pool,
      "select pid from pg_stat_activity where application_name like 'settlewire %' and datname = current_database()",
    );
    expect(pids).to.have.length(2);
    await append(pool);
    await client.received(1);
    await untilAsleep(service);
    expect(
      await column(
        pool,
        'select backend_xid::text from pg_stat_activity where pid = any ($1) and backend_xid is not null',
        [pids],
      ),
    ).to.deep.equal([]);
    expect(await column(pool, 'select pid from outbox_inflight where pid = any ($1)', [pids])).to.deep.equal(
      [],
    );
    // Every read of it works where it could write nothing.
    const readOnly = await session();
    await readOnly.query('begin read only');
    await readOnly.query('select * from outbox_read_batch(0, 10)');
    await readOnly.query('select outbox_head(), outbox_follow_epoch()');
  });

  it('rung while the writer is still in flight: the relay reads again by itself, without another ring', async () => {
    service = await startService(database.url, NEVER);
    const client = await subscribe();
    await untilAsleep(service);
    // The writer's mark is held on by a second session, as by a writer whose rows are visible and whose locks are not yet gone.
    const lingering = await session();
    const writer = await session();
    // An id that never appears: without a gap the event would need no horizon.
    await writer.query('begin');
    await append(writer);
    await writer.query('rollback');
    await writer.query('begin');
    const id = await append(writer);
    await lingering.query('begin');
    await lingering.query(
      'select pg_advisory_xact_lock_shared((21335::bigint << 48) | (select horizon from outbox_inflight where pid = $1))',
      [writer.pid],
    );
    const rings = await metric(service, 'settlewire_relay_rings');
    await writer.query('commit');
    await waitFor(async () => (await metric(service, 'settlewire_relay_rings')) > rings, {
      what: 'the ring',
    });
    await untilReads(service, 2);
    expect(client.ids, 'hidden by the horizon').to.deep.equal([]);
    expect(await outboxIds(pool, undefined, start)).to.include(id);
    await lingering.query('rollback');
    await client.received(1);
    expect(client.ids).to.deep.equal([id]);
  });

  it('refused for a moment: the relay keeps reading, and sleeps once it gets the key', async () => {
    const holder = await session();
    await holder.query(`select pg_advisory_lock(${DOORBELL})`);
    service = await startService(database.url, NEVER);
    const client = await subscribe();
    const id = await append(pool);
    await client.received(1);
    expect(client.ids).to.deep.equal([id]);
    expect(await metric(service, 'settlewire_relay_asleep')).to.equal(0);
    // It tries; it never stands in the queue, where it would make the tries of writers fail.
    expect(
      await column(
        pool,
        "select pid from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())",
      ),
    ).to.deep.equal([]);
    await holder.query(`select pg_advisory_unlock(${DOORBELL})`);
    await untilAsleep(service);
    await append(pool);
    await client.received(2);
  });

  it('not heard: the safety poll finds the event', async () => {
    service = await startService(database.url, { SAFETY_POLL_MS: '150' });
    const client = await subscribe();
    await untilAsleep(service);
    // An append whose ring is taken away: the row is there and nobody was told.
    await editFunction(pool, 'outbox_next_id_marking', /perform pg_catalog.pg_notify\([^)]*\);/, () => '');
    const rings = await metric(service, 'settlewire_relay_rings');
    const id = await append(pool);
    await client.received(1);
    expect(client.ids).to.deep.equal([id]);
    // The relay rings itself on that occasion, which shows that its LISTEN is alive.
    await waitFor(async () => (await metric(service, 'settlewire_relay_rings')) > rings, {
      what: 'its ring',
    });
    expect(await metric(service, 'settlewire_relay_reconnects')).to.equal(0);
  });

  it('is not rung under load: the relay lets go of the key, polls, and sleeps again when it is quiet', async () => {
    service = await startService(database.url, { ...NEVER, WAKE_RINGS_PER_SECOND: '20' });
    const client = await subscribe();
    await untilAsleep(service);
    const writer = await session();
    let appended = 0;
    await waitFor(
      async () => {
        await append(writer);
        appended += 1;
        return (await metric(service, 'settlewire_relay_asleep')) === 0 && (await sleepers()).length === 0;
      },
      { what: 'the relay to stay awake' },
    );
    const rings = await metric(service, 'settlewire_relay_rings');
    for (let n = 0; n < 50; n += 1) await append(writer);
    expect(await metric(service, 'settlewire_relay_rings')).to.be.below(rings + 50);
    await client.received(appended + 50);
    await untilAsleep(service);
    const last = await append(writer);
    await client.received(appended + 51);
    expect(client.ids.at(-1)).to.equal(last);
    expect(client.ids).to.deep.equal(await outboxIds(pool, undefined, start));
  });

  for (const events of [1, 3])
    it(`is not rung by writers who queue up behind a slow disk, though that makes few rings: transactions of ${events}`, async () => {
      service = await startService(database.url, { ...NEVER, WAKE_RINGS_PER_SECOND: '1000000' });
      const client = await subscribe();
      await untilAsleep(service);
      const writers = await Promise.all(Array.from({ length: 8 }, () => session()));
      // A flush of 10 ms, whoever asks for it; whoever rings holds up the others for as long.
      for (const writer of writers) await writer.query('set commit_delay = 10000; set commit_siblings = 0');
      let over = false;
      const writing = Promise.all(
        writers.map(async (writer) => {
          while (!over)
            await writer.query(
              `select outbox_append('stream:1', 'stream:settled', '{}') from generate_series(1, ${events})`,
            );
        }),
      );
      const read = () => metric(service, 'settlewire_relay_events');
      await waitFor(async () => (await metric(service, 'settlewire_relay_asleep')) === 0, {
        what: 'the relay to wake up',
      });
      await waitFor(async () => (await sleepers()).length === 0, { what: 'the key to be let go' });
      const before = { rings: await metric(service, 'settlewire_relay_rings'), events: await read() };
      await waitFor(async () => (await read()) > before.events + 200 * events, { what: 'some more events' });
      expect(await metric(service, 'settlewire_relay_rings')).to.be.below(before.rings + 50);
      over = true;
      await writing;
      await untilAsleep(service);
      const all = await outboxIds(pool, undefined, start);
      await client.received(all.length);
      expect(client.ids).to.deep.equal(all);
    });

  it('costs writers nothing while no relay runs: nobody holds the key', async () => {
    service = await startService(database.url, NEVER);
    await untilAsleep(service);
    await service.stop();
    await waitFor(async () => (await sleepers()).length === 0, { what: 'the key to be let go' });
    expect(
      await scalar(pool, `select pg_try_advisory_lock(${DOORBELL}) and pg_advisory_unlock(${DOORBELL})`),
    ).to.equal(true);
  });
});
