import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { pause } from '../support/attached.ts';
import { BlackHole, type Hole } from '../support/black-hole.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { FAULT_SETTINGS, faultTimeoutMs, type Running, underFault } from '../support/fault-run.ts';
import { metric } from '../support/metrics.ts';
import { startService } from '../support/service.ts';
import { makeStormWorld, type StormWorld } from '../support/storm.ts';
import { waitFor } from '../support/wait-for.ts';

/** The full run swallows for 30 s; the suite until the service has noticed. */
const HOLE_MS = Math.min(30, Number(process.env.FAULT_SECONDS ?? 0)) * 1000;
/** Within seconds: a safety interval of one second here, and RELAY_TIMEOUT_MS for a query or a ring. */
const NOTICE_MS = 15_000;
const RECONNECTS = 'settlewire_relay_reconnects';

describe('a network that swallows what the service and its database say, under writers and subscribers', function () {
  this.timeout(faultTimeoutMs(90_000));
  let database: TestDatabase;
  let proxy: BlackHole;
  let world: StormWorld;
  let service: Service;

  before(async () => {
    database = await createTestDatabase();
    world = await makeStormWorld(database.pool);
    proxy = await BlackHole.before(database.url);
    service = await startService(proxy.url, FAULT_SETTINGS);
  });

  after(async () => {
    await service?.stop();
    await proxy?.stop();
    await database?.drop();
  });

  afterEach(() => proxy.heal());

  const stage = () => ({ pool: database.pool, databaseUrl: database.url, world, where: () => service.url });

  /** Swallows until the relay has noticed, and for HOLE_MS at least. */
  async function untilNoticed(hole: Hole, { flowing }: Running, losses = RECONNECTS): Promise<void> {
    const before = await metric(service, losses);
    const began = performance.now();
    proxy.swallow(hole);
    await waitFor(async () => (await metric(service, losses)) > before, {
      what: 'the service to notice',
      timeoutMs: NOTICE_MS,
    });
    console.log(`      noticed after ${Math.round(performance.now() - began)} ms`);
    await pause(HOLE_MS - (performance.now() - began));
    proxy.heal();
    await flowing();
  }

  it('the answers to the reading session: noticed in seconds, nothing is lost', async () => {
    await underFault('reading session black-holed', stage(), (running) =>
      untilNoticed({ application: /^settlewire relay$/, direction: 'to-client' }, running),
    );
  });

  it('the rings of the listening session: noticed by the self-test, nothing is lost', async () => {
    // Few commits, so that the relay sleeps and needs its rings.
    await underFault('listening session black-holed', { ...stage(), count: 1 }, (running) =>
      untilNoticed(
        { application: /^settlewire listen$/, direction: 'to-client' },
        running,
        'settlewire_relay_listen_losses',
      ),
    );
  });

  it('everything, both ways, the pool too: nothing is lost, and who asks meanwhile is told to come again', async () => {
    await underFault('everything black-holed', stage(), async (running) => {
      await untilNoticed({ application: /^settlewire/, direction: 'both' }, running);
      const { audience } = running;
      await waitFor(() => audience.calm.every(({ live }) => live), {
        what: 'everybody to be back',
        timeoutMs: 20_000,
      });
    });
  });

  it('the pool alone: a query that is never answered is given up, and its connection with it', async () => {
    await underFault('pool black-holed', stage(), async ({ audience, flowing }) => {
      proxy.swallow({ application: /^settlewire$/, direction: 'to-client' });
      const tried = audience.members.reduce((sum, { attempts }) => sum + attempts, 0);
      await waitFor(() => audience.members.reduce((sum, { attempts }) => sum + attempts, 0) > tried, {
        what: 'somebody who is told to come again',
        timeoutMs: 15_000,
      });
      await pause(HOLE_MS);
      await flowing();
      proxy.heal();
      await waitFor(() => audience.calm.every(({ live }) => live), {
        what: 'everybody to be back',
        timeoutMs: 20_000,
      });
    });
  });

  it('for a moment, and everything arrives late: nobody notices, nothing comes twice', async () => {
    const before = await metric(service, RECONNECTS);
    await underFault('everything late', stage(), async ({ flowing }) => {
      for (const direction of ['to-client', 'to-server', 'both'] as const) {
        proxy.swallow({ application: /^settlewire/, direction, late: true });
        await pause(700);
        proxy.heal();
        await flowing();
      }
    });
    expect(await metric(service, RECONNECTS)).to.equal(before);
  });
});
