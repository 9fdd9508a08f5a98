import type { Service } from '../../src/service.ts';
import { pause } from '../support/attached.ts';
import { BlackHole } from '../support/black-hole.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { FAULT_SETTINGS, faultTimeoutMs, underFault } from '../support/fault-run.ts';
import { metric } from '../support/metrics.ts';
import { untilAsleep } from '../support/relay-waits.ts';
import { startService } from '../support/service.ts';
import { column } from '../support/session.ts';
import { makeStormWorld, type StormWorld } from '../support/storm.ts';
import { waitFor } from '../support/wait-for.ts';

const LISTEN = 'settlewire listen';
const READ = 'settlewire relay';
const KEY = 'the doorbell key';

const ORDERS = [
  [LISTEN, READ, KEY],
  [LISTEN, KEY, READ],
  [READ, LISTEN, KEY],
  [READ, KEY, LISTEN],
  [KEY, LISTEN, READ],
  [KEY, READ, LISTEN],
];

describe('the LISTEN session, the session that reads, and the doorbell key, lost in every order', function () {
  this.timeout(faultTimeoutMs(120_000));
  let database: TestDatabase;
  let proxy: BlackHole;
  let world: StormWorld;
  let service: Service;

  before(async () => {
    database = await createTestDatabase();
    world = await makeStormWorld(database.pool);
    proxy = await BlackHole.before(database.url);
    service = await startService(proxy.url, { ...FAULT_SETTINGS, RELAY_TIMEOUT_MS: '1000' });
  });

  after(async () => {
    await service?.stop();
    await proxy?.stop();
    await database?.drop();
  });

  afterEach(() => proxy.heal());

  const reconnects = () => metric(service, 'settlewire_relay_reconnects');

  /** Each way takes one session away, and keeps away what was taken before, until the proxy is healed. */
  const ways: Readonly<Record<string, (gone: readonly string[]) => unknown>> = {
    terminated: (gone) =>
      column(
        database.pool,
        `select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and datname = current_database()`,
        [gone.at(-1)],
      ),
    'black-holed': (gone) =>
      proxy.swallow({ application: new RegExp(`^(${gone.join('|')})$`), direction: 'both' }),
    refused: (gone) => proxy.refuse(new RegExp(`^(${gone.join('|')})$`)),
  };

  for (const [name, lose] of Object.entries(ways)) {
    it(`${name}: found out, whole again, nothing is lost`, async () => {
      // Few commits, so that the relay sleeps and has a key to lose.
      const stage = { pool: database.pool, databaseUrl: database.url, world, where: () => service.url };
      await underFault(`${name} in every order`, { ...stage, count: 1 }, async ({ flowing }) => {
        for (const order of ORDERS) {
          await untilAsleep(service);
          const before = await reconnects();
          const gone: string[] = [];
          for (const what of order) {
            // Behind the relay's back; if its session is gone, the key is as well.
            if (what === KEY) await proxy.interject(READ, 'select pg_advisory_unlock_all()');
            else await lose([...gone, what]);
            if (what !== KEY) gone.push(what);
            // From at once to well after it has come back.
            await pause(Math.random() * 120);
          }
          await waitFor(async () => (await reconnects()) > before, {
            what: `${order.join(', ')} to be noticed`,
          });
          proxy.heal();
          await waitFor(() => service.condition === 'ready', { what: 'the relay to come back' });
          await untilAsleep(service);
          await flowing();
        }
      });
    });
  }
});
