import { expect } from 'chai';
import pg from 'pg';
import type { Service } from '../../src/service.ts';
import { FAULT_SETTINGS, faultTimeoutMs, underFault } from '../support/fault-run.ts';
import { metric } from '../support/metrics.ts';
import { OwnPostgres } from '../support/own-postgres.ts';
import { startService } from '../support/service.ts';
import { append, openSession } from '../support/session.ts';
import { makeStormWorld, type StormWorld } from '../support/storm.ts';
import { waitFor } from '../support/wait-for.ts';

/** Connections that the server takes, all of them superusers'. */
const MAX_CONNECTIONS = 60;

describe('a Postgres that goes and comes back under writers and subscribers', function () {
  this.timeout(faultTimeoutMs(90_000));
  let server: OwnPostgres;
  let world: StormWorld;
  let service: Service;

  before(async () => {
    server = await OwnPostgres.start({
      // Nothing flushes an asynchronous commit by chance. What a killed server has written the operating system still has, so that
      // flushing would only make the recovery slow.
      settings: {
        fsync: 'off',
        wal_writer_delay: '10s',
        autovacuum: 'off',
        max_connections: String(MAX_CONNECTIONS),
      },
    });
    world = await makeStormWorld(server.pool);
    service = await startService(server.url, FAULT_SETTINGS);
  });

  after(async () => {
    await service?.stop();
    await server?.remove();
  });

  const stage = () => ({ pool: server.pool, databaseUrl: server.url, world, where: () => service.url });

  it('killed with -9 and restarted: nothing is lost, nothing comes twice', async () => {
    await underFault('killed with -9', stage(), async ({ flowing }) => {
      await server.kill();
      await server.start();
      await flowing();
    });
  });

  it('killed with -9 under writers with synchronous_commit=off: what was answered and delivered stays', async () => {
    const begin = 'set synchronous_commit = off';
    await underFault('killed with -9, synchronous_commit=off', { ...stage(), begin }, async ({ flowing }) => {
      await server.kill();
      await server.start();
      await flowing();
    });
  });

  it('killed with -9 right after appends that were rolled back: whoever has their ids afterwards, nothing is lost', async () => {
    await underFault('killed with -9 after aborted appends', stage(), async ({ writers, flowing }) => {
      const sessions = await Promise.all([1, 2, 3].map(() => openSession(server.pool)));
      for (let n = 0; n < 10; n += 1) {
        for (const session of sessions) {
          await session.query('begin');
          await append(session);
          await session.query('rollback');
        }
      }
      await server.kill();
      for (const session of sessions) session.end();
      await server.start();
      await flowing(50);
      expect(writers.commits).to.be.above(0);
    });
  });

  it('stopped fast and started: nothing is lost, and nobody who stays is disconnected', async () => {
    const { resumes } = await underFault('stopped fast', stage(), async ({ audience, flowing }) => {
      const { calm } = audience;
      const before = calm.map((member) => member.resumes);
      await server.stopFast();
      await server.start();
      await flowing();
      expect(calm.map((member) => member.resumes)).to.deep.equal(before);
    });
    expect(resumes).to.be.above(0);
  });

  it('with every connection taken by others: the service comes back when one is free', async () => {
    const before = await metric(service, 'settlewire_relay_reconnects');
    // Two writers hold their own connections all along; whatever else gets free the others take at once.
    await underFault('max_connections exhausted', { ...stage(), count: 2 }, async ({ writers }) => {
      const hogs = new Hogs(server.url);
      try {
        // Whoever is quicker has what gets free: until that was never the service, three times.
        await waitFor(
          async () => {
            await hogs.takeAll();
            const { rowCount } = await server.pool.query(
              `select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'settlewire%'`,
            );
            await hogs.takeAll();
            return rowCount === 0 && (await metric(service, 'settlewire_relay_reconnects')) >= before + 3;
          },
          { what: 'attempts in vain', timeoutMs: 20_000, intervalMs: 50 },
        );
        expect(service.condition).to.equal('unavailable');
        const commits = writers.commits;
        await waitFor(() => writers.commits > commits + 20, { what: 'commits that nobody hears of yet' });
      } finally {
        await hogs.letGo();
      }
    });
    expect(service.condition).to.equal('ready');
  });
});

/** Clients that take every connection that the server has left. */
class Hogs {
  readonly #url: string;
  readonly #clients: pg.Client[] = [];

  constructor(url: string) {
    this.#url = url;
  }

  /** Takes connections until there is none. */
  async takeAll(): Promise<void> {
    for (;;) {
      const client = new pg.Client({ connectionString: this.#url, application_name: 'hog' });
      client.on('error', () => {});
      try {
        await client.connect();
      } catch (error) {
        if ((error as { code?: string }).code === '53300') return;
        throw error;
      }
      this.#clients.push(client);
    }
  }

  async letGo(): Promise<void> {
    await Promise.all(this.#clients.splice(0).map((client) => client.end()));
  }
}
