import { expect } from 'chai';
import pg from 'pg';
import type { Service } from '../../src/service.ts';
import { metric } from '../support/metrics.ts';
import { OwnPostgres } from '../support/own-postgres.ts';
import { untilAsleep } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { append, failure, scalar } from '../support/session.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, outboxIds } from '../support/world.ts';

describe("Postgres's queue of notifications, full", function () {
  this.timeout(60_000);
  let server: OwnPostgres;
  let service: Service;
  let laggard: pg.Client;

  before(async function () {
    // The bound can be lowered since 17; another server's 8 GiB are not filled here.
    if (process.env.FAULT_POSTGRES_BIN !== undefined) return this.skip();
    server = await OwnPostgres.start({ settings: { fsync: 'off', max_notify_queue_pages: '64' } });
    laggard = new pg.Client({ connectionString: server.url });
    await laggard.connect();
    service = await startService(server.url, { SAFETY_POLL_MS: '200' });
  });

  after(async () => {
    await service?.stop();
    await laggard?.end();
    await server?.remove();
  });

  it('fails commits that ring for as long as a relay sleeps, so it wakes up: writers and subscribers go on', async () => {
    const admin = await makePerson(server.pool, 1, 'ADMIN');
    const start = await scalar<number>(server.pool, 'select outbox_head()');
    const client = await (await SseClient.open(`${service.url}/v1/events`, admin.token)).caughtUp();
    await untilAsleep(service);
    // Somebody else's application: it listens, and never comes to the end of its transaction.
    await laggard.query('listen elsewhere');
    await laggard.query('begin');
    await waitFor(
      async () =>
        (await failure(server.pool.query("select pg_notify('elsewhere', repeat('x', 7900))"))).code !== '',
      { what: 'the queue to be full' },
    );
    await waitFor(async () => (await metric(service, 'settlewire_relay_mode{mode="deaf"}')) === 1, {
      what: 'the relay to wake up',
    });
    for (let n = 1; n <= 20; n += 1) await append(server.pool);
    await client.received(20);
    expect(service.condition).to.equal('ready');
    await laggard.query('commit');
    await untilAsleep(service);
    await append(server.pool);
    await client.received(21);
    expect(client.ids).to.deep.equal(await outboxIds(server.pool, undefined, start));
    client.close();
  });
});
