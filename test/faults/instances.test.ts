import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { pause } from '../support/attached.ts';
import { BlackHole } from '../support/black-hole.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { FAULT_SETTINGS, faultTimeoutMs, underFault } from '../support/fault-run.ts';
import { metric } from '../support/metrics.ts';
import { startService } from '../support/service.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { SseClient } from '../support/sse-client.ts';
import { at, makeStormWorld, type StormWorld } from '../support/storm.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';

describe('instances that come and go under writers and subscribers', function () {
  this.timeout(faultTimeoutMs(60_000));
  let database: TestDatabase;
  let world: StormWorld;

  beforeEach(async () => {
    database = await createTestDatabase();
    world = await makeStormWorld(database.pool);
  });

  afterEach(() => database.drop());

  const stage = (where: (member: number) => string) => ({
    pool: database.pool,
    databaseUrl: database.url,
    world,
    where,
  });

  it('killed with -9 in the middle of a storm and started again: every client resumes where it was', async () => {
    const service = await ServiceProcess.start(database.url, FAULT_SETTINGS);
    try {
      const { resumes } = await underFault(
        'service killed with -9',
        stage(() => service.url),
        async ({ flowing }) => {
          await service.kill();
          await service.start();
          await flowing();
        },
      );
      expect(resumes, 'somebody came back').to.be.above(0);
    } finally {
      await service.kill();
    }
  });

  it('three, and clients that hop between them at random, also to one whose relay is behind them', async () => {
    const proxy = await BlackHole.before(database.url);
    const services: Service[] = [];
    try {
      services.push(await startService(database.url, FAULT_SETTINGS));
      services.push(await startService(database.url, FAULT_SETTINGS));
      // Its relay goes through the proxy; its pool, which answers those who connect, does not.
      const behind = await startService(database.url, { ...FAULT_SETTINGS, LISTEN_DATABASE_URL: proxy.url });
      services.push(behind);
      let ahead = 0;
      const where = (): string => at(services, Math.floor(Math.random() * services.length)).url;
      await underFault('hopping between three', stage(where), async ({ audience, flowing }) => {
        for (let n = 0; n < 3; n += 1) {
          proxy.swallow({ application: /./, direction: 'to-client', late: true });
          await pause(300);
          // Clients of the two others are ahead of the third by now; one in three lands there.
          expect(behind.condition).to.equal('ready');
          expect(at(services, 0).hub.cursor).to.be.above(behind.hub.cursor);
          const before = behind.hub.subscribers.size;
          for (const member of audience.members) member.drop();
          await waitFor(
            () => behind.hub.subscribers.size > before / 2 && audience.calm.every(({ live }) => live),
            {
              what: 'everybody to be live again, some with the one behind',
            },
          );
          ahead += behind.hub.subscribers.size;
          proxy.heal();
          await flowing();
        }
      });
      expect(ahead, 'clients ahead of their instance').to.be.above(0);
    } finally {
      await Promise.all(services.map((service) => service.stop()));
      await proxy.stop();
    }
  });

  it('two, started and stopped in turn as in a rolling deploy: there is always one, and nothing is lost', async () => {
    const services = [
      await startService(database.url, FAULT_SETTINGS),
      await startService(database.url, FAULT_SETTINGS),
    ];
    const where = (): string =>
      at(
        services.filter(({ condition }) => condition === 'ready'),
        Math.floor(Math.random() * 2),
      ).url;
    try {
      await underFault('rolling restart of two', stage(where), async ({ flowing }) => {
        for (let n = 0; n < 2; n += 1) {
          await services[n]?.stop();
          services[n] = await startService(database.url, FAULT_SETTINGS);
          await flowing();
        }
      });
    } finally {
      await Promise.all(services.map((service) => service.stop()));
    }
  });

  it('whose clock is stepped forth and back: order, delivery, heartbeats, expiry and the lag do not care', async () => {
    const steps = [1800, -4, 0];
    const service = await ServiceProcess.start(database.url, { ...FAULT_SETTINGS, ...steppedClock(steps) });
    const admin = { adminUrl: `http://127.0.0.1:${service.environment['ADMIN_PORT']}` };
    try {
      await underFault(
        'clock stepped',
        stage(() => service.url),
        async ({ audience, flowing }) => {
          const expiresAt = Math.ceil(Date.now() / 1000) + 4;
          const { id } = at(world.people, 0);
          const brief = await SseClient.open(
            `${service.url}/v1/events`,
            mintToken({ sub: id, exp: expiresAt }),
          );
          await brief.caughtUp();
          const resumes = audience.calm.map((member) => member.resumes);
          for (const _ of steps) {
            service.signal('SIGUSR2');
            const beats = brief.comments.length + brief.messages.length;
            await waitFor(() => brief.ended || brief.comments.length + brief.messages.length > beats, {
              what: 'a heartbeat',
            });
            await flowing();
            expect(await metric(admin, 'settlewire_relay_lag_seconds')).to.be.within(0, 60);
          }
          expect(
            audience.calm.map((member) => member.resumes),
            'nobody was sent away',
          ).to.deep.equal(resumes);
          expect((await brief.message('disconnect')).data['reason']).to.equal('token_expired');
          expect(Date.now() / 1000).to.be.within(expiresAt - 0.1, expiresAt + 5);
        },
      );
      expect(await metric(admin, 'settlewire_relay_reconnects')).to.equal(0);
    } finally {
      await service.kill();
    }
  });
});

/** Environment of a process whose clock takes the next of these steps, in seconds from the machine's, at each SIGUSR2. */
function steppedClock(steps: readonly number[]): Record<string, string> {
  const shim = new URL('../support/stepped-clock.mjs', import.meta.url).href;
  return { NODE_OPTIONS: `--import ${shim}`, CLOCK_STEPS: steps.join(',') };
}
