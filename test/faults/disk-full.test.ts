import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { FAULT_SETTINGS, faultTimeoutMs, underFault } from '../support/fault-run.ts';
import { metric } from '../support/metrics.ts';
import { OwnPostgres } from '../support/own-postgres.ts';
import { startService } from '../support/service.ts';
import { SmallDisk } from '../support/small-disk.ts';
import { makeStormWorld, type StormWorld } from '../support/storm.ts';
import { waitFor } from '../support/wait-for.ts';

const MEGABYTES = 200;
/** Little WAL is kept, so that new segments are soon needed. */
const SETTINGS = { fsync: 'off', max_wal_size: '48MB', min_wal_size: '32MB' };
const DISK_FULL = '53100';

describe('a database on a full disk, under writers and subscribers', function () {
  this.timeout(faultTimeoutMs(120_000));
  let disk: SmallDisk;
  let elsewhere: string;
  let server: OwnPostgres | undefined;
  let service: Service | undefined;
  let world: StormWorld;

  beforeEach(async () => {
    disk = await SmallDisk.mount(MEGABYTES);
    elsewhere = await mkdtemp(join(tmpdir(), 'settlewire-wal-'));
  });

  afterEach(async () => {
    await disk.free();
    await service?.stop();
    await server?.remove();
    service = undefined;
    server = undefined;
    await disk.unmount();
    await rm(elsewhere, { recursive: true, force: true });
  });

  async function open(walParent?: string): Promise<{ server: OwnPostgres; service: Service }> {
    server = await OwnPostgres.start({
      parent: disk.path,
      settings: SETTINGS,
      ...(walParent === undefined ? {} : { walParent }),
    });
    world = await makeStormWorld(server.pool);
    service = await startService(server.url, FAULT_SETTINGS);
    return { server, service };
  }

  it('no room for tables: writers fail and say why, subscribers stay, and all goes on when there is room', async () => {
    const opened = await open(elsewhere);
    const { pool, url: databaseUrl } = opened.server;
    const stage = { pool, databaseUrl, world, where: () => opened.service.url };
    await underFault('disk full, tables', stage, async ({ audience, writers }) => {
      const resumes = audience.calm.map((member) => member.resumes);
      await disk.fill();
      await waitFor(() => (writers.failures.get(DISK_FULL) ?? 0) >= 50, {
        what: 'writers that fail',
        timeoutMs: 20_000,
      });
      expect(opened.service.condition).to.equal('ready');
      expect(audience.calm.map((member) => member.resumes)).to.deep.equal(resumes);
      await disk.free();
    });
    expect(await metric(opened.service, 'settlewire_relay_reconnects')).to.equal(0);
  });

  it('no room for the WAL: Postgres panics; what it had promised is there when it comes back, and nothing else came', async () => {
    const opened = await open();
    const { pool, url: databaseUrl } = opened.server;
    const stage = { pool, databaseUrl, world, where: () => opened.service.url };
    // Room for tables but not for WAL: what the writers fill is mostly the log.
    await underFault('disk full, WAL', stage, async () => {
      await disk.fill();
      // Large records bring the end of the present segments near.
      await waitFor(
        async () => {
          await pool
            .query(`select pg_logical_emit_message(false, 'test', repeat('x', 1000000)), pg_switch_wal()`)
            .catch(() => {});
          return /PANIC/.test(opened.server.log);
        },
        { what: 'a panic', timeoutMs: 20_000 },
      );
      // It tries to recover by itself while there is still no room. What it makes of that is its own matter: it is down when room is made.
      await opened.server.kill();
      await disk.free();
      await opened.server.start();
    });
    expect(await metric(opened.service, 'settlewire_relay_reconnects')).to.be.above(0);
  });
});
