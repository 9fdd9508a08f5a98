import { expect } from 'chai';
import type { Pool } from 'pg';
import type { Service } from '../../src/service.ts';
import { crashPostgres } from '../support/crash-postgres.ts';
import { metric } from '../support/metrics.ts';
import { type PrivatePostgres, startPrivatePostgres } from '../support/private-postgres.ts';
import { untilAsleep, untilReads } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { append, column, failure, openSession, type Session, scalar } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, outboxIds, type Person } from '../support/world.ts';

describe('a crash of Postgres', function () {
  this.timeout(60_000);
  let server: PrivatePostgres;
  let pool: Pool;
  let admin: Person;
  const sessions: Session[] = [];
  const clients: SseClient[] = [];

  before(async () => {
    server = await startPrivatePostgres();
    pool = server.pool;
    admin = await makePerson(pool, 1, 'ADMIN');
    // Nothing flushes an asynchronous commit by chance while a test runs.
    await server.configure({ wal_writer_delay: '10s', autovacuum: 'off', full_page_writes: 'off' });
    await waitFor(async () => (await scalar(pool, 'show wal_writer_delay')) === '10s', {
      what: 'the setting',
    });
  });

  afterEach(() => {
    for (const session of sessions.splice(0)) session.end();
    for (const client of clients.splice(0)) client.close();
  });

  after(() => server.stop());

  async function session(): Promise<Session> {
    const opened = await openSession(pool);
    sessions.push(opened);
    return opened;
  }

  /** Full pages of the log go to disk by themselves: what follows must find room on its page. */
  async function leaveRoomInLog(): Promise<void> {
    while (await scalar(pool, "select (pg_current_wal_insert_lsn() - '0/0') % 8192 > 2048"))
      await pool.query("select pg_logical_emit_message(true, 'fill', repeat('x', 1500))");
  }

  /**
   * An append that takes an id and fails, after a checkpoint, so that its `nextval` is logged.
   * @returns the id, and where the log ended before it
   */
  async function appendInVain(): Promise<{ id: number; lsn: string }> {
    await pool.query('checkpoint');
    await leaveRoomInLog();
    const lsn = await scalar<string>(pool, 'select pg_current_wal_insert_lsn()');
    const inVain = `do $$ begin perform outbox_append('test:a', 'test:event', '{}'); raise 'in vain'; end $$`;
    expect((await failure(pool.query(inVain))).message).to.equal('in vain');
    return { id: await scalar<number>(pool, 'select last_value from outbox_id_seq'), lsn };
  }

  /** Whatever tells a cursor, to whoever asks, tells that of the last event. */
  async function expectCursor(service: Service, cursor: number): Promise<SseClient> {
    expect(await scalar(pool, 'select outbox_head()')).to.equal(cursor);
    expect(await metric(service, 'settlewire_cursor')).to.equal(cursor);
    for (const path of ['/v1/cursor', '/v1/snapshot']) {
      const response = await fetch(service.url + path, {
        headers: { Authorization: `Bearer ${admin.token}` },
      });
      expect(response.status, path).to.equal(200);
      expect(await response.json(), path).to.include({ cursor });
    }
    const late = await (await SseClient.open(`${service.url}/v1/events`, admin.token)).caughtUp();
    clients.push(late);
    expect((await late.message('session')).data['cursor']).to.equal(cursor);
    expect((await late.message('caught-up')).data['cursor']).to.equal(cursor);
    await waitFor(() => late.comments.length > 0, { what: 'a heartbeat' });
    for (const { messages } of clients)
      expect(messages.filter(({ id }) => Number(id) > cursor)).to.deep.equal([]);
    return late;
  }

  it('gives an aborted id out again; nobody ever spoke of it, and the event that has it then is delivered', async () => {
    // Keeps retention from committing, and with that flushing the log, in the middle of it.
    const keeper = await session();
    await keeper.query('begin; select from outbox_meta for update');
    const service = await startService(server.url, { SAFETY_POLL_MS: '600000' });
    const client = await (await SseClient.open(`${service.url}/v1/events`, admin.token)).caughtUp();
    clients.push(client);
    try {
      const first = await append(pool);
      await client.received(1);
      let aborted: number;
      let late: SseClient;
      let flushed: boolean;
      // Reads, too, may fill a page of the log (they tidy up what they read); the second time they find nothing to do.
      let attempts = 0;
      do {
        attempts += 1;
        const { id, lsn } = await appendInVain();
        aborted = id;
        expect(aborted).to.be.above(first);
        expect(await scalar(pool, 'select outbox_horizon()'), 'the horizon speaks of it').to.equal(aborted);
        late = await expectCursor(service, first);
        flushed = await scalar<boolean>(pool, 'select pg_current_wal_flush_lsn() > $1', [lsn]);
      } while (flushed && attempts < 10);
      expect(flushed, 'the log is not on disk').to.equal(false);

      await crashPostgres(server.url);
      const again = await waitFor(() => append(pool), { what: 'an append after the crash' });
      expect(again, 'given out again').to.be.at.most(aborted);
      await client.received(2, 20_000);
      await late.received(1, 20_000);
      expect(client.ids).to.deep.equal([first, again]);
      expect(late.ids).to.deep.equal([again]);
    } finally {
      await service.stop();
    }
  });

  it('takes nothing back that was delivered: an asynchronous commit with an event waits for its flush', async () => {
    const writer = await session();
    await writer.query('create table if not exists marks (mark text)');
    await writer.query('checkpoint');
    const start = await scalar<number>(pool, 'select outbox_head()');
    await writer.query('set synchronous_commit = off');
    await writer.query('begin');
    const id = await append(writer);
    expect(await scalar(writer, 'show synchronous_commit')).to.equal('local');
    await writer.query('commit');
    expect(await column(pool, 'select id from outbox_read($1)', [start]), 'delivered').to.deep.equal([id]);
    // The setting was for that transaction. One without events is as asynchronous as its writer wants, and is lost.
    expect(await scalar(writer, 'show synchronous_commit')).to.equal('off');
    await leaveRoomInLog();
    await writer.query("insert into marks values ('asynchronous')");
    expect(await scalar(writer, 'show synchronous_commit')).to.equal('off');

    await crashPostgres(server.url);
    await waitFor(() => scalar(pool, 'select 1'), { what: 'the database' });
    expect(await column(pool, 'select id from outbox_read($1)', [start])).to.deep.equal([id]);
    expect(await append(pool)).to.be.above(id);
    expect(
      await column(pool, 'select mark from marks'),
      'the crash does lose what was not flushed',
    ).to.deep.equal([]);
  });

  it('leaves stricter settings alone: remote_apply, on and local stay what they are', async () => {
    for (const setting of ['on', 'local', 'remote_write', 'remote_apply']) {
      const writer = await session();
      await writer.query('begin');
      await writer.query(`set local synchronous_commit = ${setting}`);
      await append(writer);
      expect(await scalar(writer, 'show synchronous_commit')).to.equal(setting);
    }
  });

  it('with subscribers attached and writers at work: all that was committed comes, in order, once', async () => {
    const service = await startService(server.url, { SAFETY_POLL_MS: '600000' });
    const opened = [1, 2, 3].map(async () =>
      (await SseClient.open(`${service.url}/v1/events`, admin.token)).caughtUp(),
    );
    clients.push(...(await Promise.all(opened)));
    let over = false;
    try {
      const start = (await outboxIds(pool)).at(-1) ?? 0;
      const writers = [1, 2, 3, 4].map(async () => {
        // A writer that is cut off in its commit cannot know; the outbox does. While Postgres is down it asks now and then.
        while (!over) await append(pool).catch(() => new Promise((resolve) => setTimeout(resolve, 20)));
      });
      for (let crash = 1; crash <= 2; crash += 1) {
        await untilReads(service, 5);
        await crashPostgres(server.url);
        await waitFor(async () => (await metric(service, 'settlewire_relay_caught_up')) === 1, {
          what: 'the relay to come back',
          timeoutMs: 20_000,
        });
      }
      await untilReads(service, 5);
      over = true;
      await Promise.all(writers);
      const expected = await outboxIds(pool, undefined, start);
      expect(expected.length).to.be.above(10);
      for (const client of clients) {
        await client.received(expected.length, 20_000);
        expect(client.ids).to.deep.equal(expected);
        expect(client.ended).to.equal(false);
      }
      await untilAsleep(service);
    } finally {
      over = true;
      await service.stop();
    }
  });
});
