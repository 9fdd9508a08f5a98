import { Writable } from 'node:stream';
import { expect } from 'chai';
import pg, { type Pool } from 'pg';
import { pino } from 'pino';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, startTestServer, type TestDatabase } from '../support/database.ts';
import { metric } from '../support/metrics.ts';
import { untilAsleep } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { append, column, openSession, type Session, scalar } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, outboxIds, type Person } from '../support/world.ts';

describe('a relay that loses its sessions', () => {
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
    service = await startService(database.url, { SAFETY_POLL_MS: '600000' });
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    for (const session of sessions.splice(0)) session.end();
    await service.stop();
    await database.drop();
  });

  async function subscribe(headers: Record<string, string> = {}): Promise<SseClient> {
    const client = await SseClient.open(`${service.url}/v1/events`, admin.token, headers);
    clients.push(client);
    return client.caughtUp();
  }

  const terminate = (names: readonly string[], db: Pick<Pool, 'query'> = pool) =>
    column<boolean>(
      db,
      `select pg_terminate_backend(pid) from pg_stat_activity
        where application_name = any ($1) and datname = current_database()`,
      [names],
    );

  it('is said in the log, with the reason, and so is that it is back', async () => {
    const lines: { msg: string; failures?: number; err?: { message: string } }[] = [];
    const log = pino(
      new Writable({
        write(line, _encoding, done) {
          lines.push(JSON.parse(String(line)));
          done();
        },
      }),
    );
    const other = await startService(database.url, {}, { log });
    try {
      await terminate(['settlewire relay']);
      await waitFor(() => lines.some(({ msg }) => msg.startsWith('relay: has its database again')), {
        what: 'the line that says so',
      });
      // Its listener ends with it, and may be the first to say so.
      const told = lines.filter(
        ({ msg }) => msg.startsWith('relay: ') && !msg.startsWith('relay: nobody listens'),
      );
      expect(told[0]).to.have.property('msg', 'relay: lost the database, connecting again');
      expect(told[0]?.err?.message).to.match(/\w/);
      expect(told.at(-1)?.failures).to.be.at.least(1);
    } finally {
      await other.stop();
    }
  });

  for (const { names, losses } of [
    { names: ['settlewire listen'], losses: 'settlewire_relay_listen_losses' },
    { names: ['settlewire relay'], losses: 'settlewire_relay_reconnects' },
    { names: ['settlewire listen', 'settlewire relay'], losses: 'settlewire_relay_reconnects' },
  ]) {
    it(`delivers all, in order and once, when ${names.join(' and ')} is terminated again and again`, async () => {
      const client = await subscribe();
      let count = 0;
      for (let round = 1; round <= 3; round += 1) {
        await untilAsleep(service);
        await append(pool);
        expect(await terminate(names)).to.have.length(names.length);
        for (let n = 0; n < 10; n += 1) await append(pool);
        count += 11;
        await client.received(count, 10_000);
        await waitFor(async () => (await metric(service, losses)) >= round, { what: 'it to notice' });
      }
      await untilAsleep(service);
      await append(pool);
      await client.received(count + 1);
      expect(client.ids).to.deep.equal(await outboxIds(pool, undefined, start));
      expect(client.ended).to.equal(false);
    });
  }

  it('forgets what it was reading ahead when its session goes, and reads it anew', async () => {
    await service.stop();
    // A backlog of full batches: all the while the next one is being read.
    service = await startService(database.url, { SAFETY_POLL_MS: '600000', RELAY_BATCH_EVENTS: '1' });
    const client = await subscribe();
    await pool.query(
      "select outbox_append('stream:1', 'stream:settled', '{}') from generate_series(1, 3000)",
    );
    await client.received(100);
    await terminate(['settlewire relay']);
    await client.received(3000);
    expect(await metric(service, 'settlewire_relay_reconnects')).to.be.at.least(1);
    expect(client.ids).to.deep.equal(await outboxIds(pool, undefined, start));
  });

  it('delivers what was committed while it could not come back, and what a writer held back over the loss', async () => {
    const client = await subscribe();
    const writer = await openSession(pool);
    sessions.push(writer);
    await writer.query('begin');
    const held = await append(writer);
    const committer = await openSession(pool);
    sessions.push(committer);
    const later = await shutOut(async () => {
      await terminate(['settlewire listen', 'settlewire relay'], committer);
      await waitFor(async () => (await metric(service, 'settlewire_relay_reconnects')) >= 2, {
        what: 'two attempts in vain',
      });
      return append(committer);
    });
    await untilReconnected();
    expect(client.ids).to.deep.equal([]);
    await writer.query('commit');
    await client.received(2, 10_000);
    expect(client.ids).to.deep.equal([held, later]);
  });

  /** Does the work while the database takes no new connections. */
  async function shutOut<T>(work: () => Promise<T>): Promise<T> {
    const client = new pg.Client({ connectionString: (await startTestServer()).url });
    await client.connect();
    const name = new URL(database.url).pathname.slice(1);
    try {
      await client.query(`alter database ${name} allow_connections false`);
      return await work();
    } finally {
      await client.query(`alter database ${name} allow_connections true`);
      await client.end();
    }
  }

  async function untilReconnected(): Promise<void> {
    await waitFor(async () => (await metric(service, 'settlewire_relay_caught_up')) === 1, {
      what: 'the relay to come back',
      timeoutMs: 10_000,
    });
  }

  it('sends everybody away when a new epoch is opened under it; old cursors are told, new ones go on', async () => {
    const client = await subscribe();
    const old = await append(pool);
    await client.received(1);
    await pool.query('select outbox_new_epoch()');
    const id = await append(pool);
    await client.untilEnded();
    expect((await client.message('disconnect')).data['reason']).to.equal('unavailable');
    await untilReconnected();
    const back = await subscribe({ 'Last-Event-ID': client.lastEventId ?? '' });
    const reset = await back.message('reset');
    expect(reset.data).to.include({ reason: 'epoch', requested: old });
    expect(reset.data['cursor']).to.be.oneOf([id, reset.data['oldest']]);
    const next = await append(pool);
    await waitFor(() => back.ids.includes(next), { what: 'the next event' });
    const cursor = Number(reset.data['cursor']);
    expect(back.ids).to.deep.equal([id, next].filter((event) => event > cursor));
  });
});
