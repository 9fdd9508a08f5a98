import { expect } from 'chai';
import type { Pool } from 'pg';
import { createPool } from '../../src/database.ts';
import type { Service } from '../../src/service.ts';
import { pause } from '../support/attached.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { FAULT_SETTINGS, faultTimeoutMs, underFault } from '../support/fault-run.ts';
import { metric } from '../support/metrics.ts';
import { untilAsleep } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { column, scalar } from '../support/session.ts';
import { makeStormWorld, type StormWorld } from '../support/storm.ts';
import { waitFor } from '../support/wait-for.ts';

const LISTEN = 'settlewire listen';
const RELAY = 'settlewire relay';
const POOL = 'settlewire';
const RECONNECTS = 'settlewire_relay_reconnects';

/** Every order in which the three can go. */
const ORDERS = [
  [LISTEN, RELAY, POOL],
  [LISTEN, POOL, RELAY],
  [RELAY, LISTEN, POOL],
  [RELAY, POOL, LISTEN],
  [POOL, LISTEN, RELAY],
  [POOL, RELAY, LISTEN],
];

describe('backends that end under writers and subscribers', function () {
  this.timeout(faultTimeoutMs(60_000));
  let database: TestDatabase;
  let observer: Pool;
  let world: StormWorld;
  let service: Service;

  before(async () => {
    database = await createTestDatabase();
    observer = createPool(database.url, { max: 3, applicationName: 'observer' });
    world = await makeStormWorld(database.pool);
    service = await startService(database.url, FAULT_SETTINGS);
  });

  after(async () => {
    await service?.stop();
    await observer?.end();
    await database?.drop();
  });

  const stage = () => ({ pool: database.pool, databaseUrl: database.url, world, where: () => service.url });

  const terminate = (names: readonly string[]) =>
    column<boolean>(
      observer,
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name = any ($1) and datname = current_database()`,
      [names],
    );

  it('terminated one after the other in every order, and all together: nothing is lost', async () => {
    const before = await metric(service, RECONNECTS);
    await underFault('backends terminated', stage(), async ({ flowing }) => {
      /** Whatever was terminated, it noticed, came back, and events flow. */
      const whole = async (reconnects: number): Promise<void> => {
        await waitFor(
          async () => service.condition === 'ready' && (await metric(service, RECONNECTS)) > reconnects,
          { what: 'the relay to come back', timeoutMs: 15_000 },
        );
        await flowing();
      };
      for (const order of ORDERS) {
        const reconnects = await metric(service, RECONNECTS);
        for (const name of order) {
          await terminate([name]);
          // From at once to well after it has come back.
          await pause(Math.random() * 120);
        }
        await whole(reconnects);
      }
      for (let n = 0; n < 3; n += 1) {
        const reconnects = await metric(service, RECONNECTS);
        await terminate([LISTEN, RELAY, POOL]);
        await whole(reconnects);
      }
    });
    expect(await metric(service, RECONNECTS)).to.be.at.least(before + 9);
    await untilAsleep(service);
  });

  it('writers cancelled and terminated at any moment: what they committed comes, what they did not does not', async () => {
    let cancelled = 0;
    await underFault('writers cancelled', { ...stage(), count: 8 }, async ({ writers }) => {
      const enough = writers.commits + 100;
      for (let n = 0; n < 150 || writers.commits < enough; n += 1) {
        const end = n % 10 === 0 ? 'pg_terminate_backend' : 'pg_cancel_backend';
        const signalled = await column<boolean>(
          observer,
          `select ${end}(pid) from pg_stat_activity
            where application_name like 'writer %' and datname = current_database() and state = 'active' order by random() limit 2`,
        );
        cancelled += signalled.length;
        await pause(Math.random() * 8);
      }
      expect([...writers.failures.keys()]).to.include.members(['57014', '57P01']);
    });
    expect(cancelled).to.be.above(20);
    expect(await scalar(observer, 'select count(*)::int from outbox_inflight'), 'marks left').to.equal(0);
    await untilAsleep(service);
  });
});
