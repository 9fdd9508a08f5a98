import { Writable } from 'node:stream';
import { expect } from 'chai';
import { Client, type Pool } from 'pg';
import { pino } from 'pino';
import type { Service } from '../../src/service.ts';
import { BlackHole } from '../support/black-hole.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { editFunction } from '../support/gate.ts';
import { metric } from '../support/metrics.ts';
import { startPgBouncer } from '../support/pgbouncer.ts';
import { needPrograms } from '../support/programs.ts';
import { untilAsleep, untilReads } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { append, column, scalar } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, outboxIds, type Person } from '../support/world.ts';

/** No safety poll comes to the rescue within a test. */
const NEVER = { SAFETY_POLL_MS: '600000' };
const LISTEN = /^settlewire listen$/;
const RELAY = 'settlewire relay';
const RECONNECTS = 'settlewire_relay_reconnects';

describe('a relay that has no session that listens', function () {
  this.timeout(60_000);
  let database: TestDatabase;
  let pool: Pool;
  let proxy: BlackHole;
  let service: Service;
  let admin: Person;
  /** The admin's own events come before it. */
  let start: number;
  const clients: SseClient[] = [];
  const lines: string[] = [];

  beforeEach(async () => {
    database = await createTestDatabase();
    pool = database.pool;
    proxy = await BlackHole.before(database.url);
    admin = await makePerson(pool, 1, 'ADMIN');
    start = await scalar<number>(pool, 'select outbox_head()');
    lines.length = 0;
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await service?.stop();
    await proxy?.stop();
    await database?.drop();
  });

  async function serve(environment: Record<string, string>, url = proxy.url): Promise<void> {
    const sink = new Writable({
      write(line, _encoding, done) {
        lines.push(String(line));
        done();
      },
    });
    service = await startService(url, environment, { log: pino(sink) });
  }

  async function subscribe(): Promise<SseClient> {
    const client = await SseClient.open(`${service.url}/v1/events`, admin.token);
    clients.push(client);
    return client.caughtUp();
  }

  const until = (mode: string, what: string) =>
    waitFor(async () => (await metric(service, `settlewire_relay_mode{mode="${mode}"}`)) === 1, { what });

  const sleepers = () =>
    column<number>(
      pool,
      `select pid from pg_locks
        where locktype = 'advisory' and objsubid = 1 and classid::bigint >> 16 = 21336
          and database = (select oid from pg_database where datname = current_database())`,
    );

  /** It reads by itself, holds nobody up, and is as ready as ever. */
  async function expectPolling(client: SseClient): Promise<void> {
    await until('deaf', 'the relay to poll without a listener');
    await waitFor(async () => (await sleepers()).length === 0, { what: 'the key to be let go' });
    const rings = await metric(service, 'settlewire_relay_rings');
    const before = client.ids.length;
    for (let n = 1; n <= 20; n += 1) await append(pool);
    await client.received(before + 20);
    await untilReads(service, 20);
    expect(await metric(service, 'settlewire_relay_rings'), 'nobody rings').to.equal(rings);
    expect((await fetch(`${service.url}/readyz`)).status).to.equal(200);
    await subscribe();
    expect(client.ids).to.deep.equal(await outboxIds(pool, undefined, start));
  }

  for (const { how, lose, environment } of [
    { how: 'refused', lose: () => proxy.refuse(LISTEN), environment: NEVER },
    {
      how: 'black-holed',
      lose: () => proxy.swallow({ application: LISTEN, direction: 'both' }),
      environment: { SAFETY_POLL_MS: '100' },
    },
  ]) {
    it(`${how}: polls and stays ready, and sleeps again when it is heard again`, async () => {
      await serve(environment);
      const client = await subscribe();
      await untilAsleep(service);
      lose();
      await expectPolling(client);
      // Attempts go on in the background.
      const losses = await metric(service, 'settlewire_relay_listen_losses');
      await waitFor(async () => (await metric(service, 'settlewire_relay_listen_losses')) > losses, {
        what: 'another attempt in vain',
      });
      expect(lines.join('')).to.contain('nobody listens, polling meanwhile');
      proxy.heal();
      await untilAsleep(service);
      expect(lines.join('')).to.contain('relay: hears again');
      await waitFor(async () => (await sleepers()).length === 1, { what: 'the key to be taken' });
      const rings = await metric(service, 'settlewire_relay_rings');
      const id = await append(pool);
      await client.received(21);
      expect(client.ids.at(-1)).to.equal(id);
      expect(await metric(service, 'settlewire_relay_rings')).to.be.above(rings);
      expect(client.ended).to.equal(false);
    });

    it(`${how} from the start: starts, and is ready`, async () => {
      lose();
      await serve(environment);
      await expectPolling(await subscribe());
      expect(await metric(service, RECONNECTS)).to.equal(0);
      proxy.heal();
      await untilAsleep(service);
    });
  }

  it('through a transaction-pooling PgBouncer, where LISTEN is for nothing: polls, and takes no session lock', async function () {
    needPrograms(this, 'pgbouncer');
    const bouncer = await startPgBouncer(database.serviceUrl, 'transaction');
    try {
      await serve({ ...NEVER, LISTEN_DATABASE_URL: bouncer.url }, database.url);
      const client = await subscribe();
      await waitFor(async () => (await metric(service, 'settlewire_relay_listen_losses')) >= 1, {
        what: 'a listener to be given up',
      });
      await expectPolling(client);
      await service.stop();
      const pooled = new Client({ connectionString: bouncer.url });
      await pooled.connect();
      try {
        const { rows } = await pooled.query('show plan_cache_mode');
        expect(rows, 'left to whoever has the session next').to.deep.equal([{ plan_cache_mode: 'auto' }]);
      } finally {
        await pooled.end();
      }
    } finally {
      await service.stop();
      await bouncer.stop();
    }
  });

  it('through a PgBouncer that has each read done by another session: reads on', async function () {
    needPrograms(this, 'pgbouncer');
    const bouncer = await startPgBouncer(database.serviceUrl, 'transaction');
    const others = [1, 2, 3].map(() => new Client({ connectionString: bouncer.url }));
    try {
      await serve({ ...NEVER, RELAY_TIMEOUT_MS: '60000', LISTEN_DATABASE_URL: bouncer.url }, database.url);
      const client = await subscribe();
      await Promise.all(others.map((other) => other.connect()));
      // Whoever holds a session in a transaction makes the relay take another one; so for a while all of them are everybody's.
      for (let n = 0; n < 30; n += 1) {
        const other = others[n % others.length] as Client;
        await other.query('begin');
        await untilReads(service, 1);
        if (n % 3 === 2) for (const each of others) await each.query('commit');
      }
      for (let n = 0; n < 3; n += 1) await append(pool);
      await client.received(3);
      expect(client.ids).to.deep.equal(await outboxIds(pool, undefined, start));
      expect(await metric(service, RECONNECTS)).to.equal(0);
      expect(client.ended).to.equal(false);
    } finally {
      await Promise.all(others.map((other) => other.end()));
      await service.stop();
      await bouncer.stop();
    }
  });

  it('but listens, and loses the key alone: takes it anew within a safety interval, and stays ready', async () => {
    await serve({ SAFETY_POLL_MS: '200' });
    const client = await subscribe();
    const lost = () => metric(service, 'settlewire_relay_key_losses');
    for (let n = 1; n <= 3; n += 1) {
      await untilAsleep(service);
      const before = await lost();
      await proxy.interject(RELAY, 'select pg_advisory_unlock_all()');
      const id = await append(pool);
      await client.received(n);
      expect(client.ids.at(-1)).to.equal(id);
      await waitFor(
        async () => {
          // It may have been about to let go by itself.
          await proxy.interject(RELAY, 'select pg_advisory_unlock_all()');
          return (await lost()) > before;
        },
        { what: 'it to notice' },
      );
      await waitFor(async () => (await sleepers()).length === 1, { what: 'the key to be taken anew' });
    }
    expect(await metric(service, RECONNECTS)).to.equal(0);
    expect(await metric(service, 'settlewire_relay_listen_losses')).to.equal(0);
  });

  it('RELAY_TIMEOUT_MS: a query and then a connection that are not answered by then are given up', async () => {
    await serve({ SAFETY_POLL_MS: '50', RELAY_TIMEOUT_MS: '300' });
    const client = await subscribe();
    await untilAsleep(service);
    proxy.swallow({ application: /^settlewire relay$/, direction: 'to-client' });
    const said = (what: string) => waitFor(() => lines.some((line) => line.includes(what)), { what });
    await said('Query read timeout');
    await said('timeout expired');
    const id = await append(pool);
    proxy.heal();
    await client.received(1);
    expect(client.ids).to.deep.equal([id]);
  });

  it('RELAY_TIMEOUT_MS: a database that is slower than that is given more time, and followed', async () => {
    await editFunction(
      pool,
      'outbox_read_batch',
      /return query/,
      (match) => `perform pg_sleep(0.5); ${match}`,
    );
    await serve({ ...NEVER, RELAY_TIMEOUT_MS: '200' });
    expect(await metric(service, RECONNECTS), 'attempts that were too short').to.be.at.least(1);
    const client = await subscribe();
    const id = await append(pool);
    await client.received(1);
    expect(client.ids).to.deep.equal([id]);
  });
});
