import { expect } from 'chai';
import { Blockade } from '../support/blockade.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { FAULT_SETTINGS, faultTimeoutMs, underFault } from '../support/fault-run.ts';
import { metric } from '../support/metrics.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { at, makeStormWorld, type StormWorld } from '../support/storm.ts';
import { waitFor } from '../support/wait-for.ts';
import { isAlive, logOf, workerPids } from '../support/worker-log.ts';

describe('workers that come and go under writers and subscribers', function () {
  this.timeout(faultTimeoutMs(90_000));
  let database: TestDatabase;
  let world: StormWorld;
  let service: ServiceProcess;
  let admin: { adminUrl: string };

  beforeEach(async () => {
    database = await createTestDatabase();
    world = await makeStormWorld(database.pool);
  });

  async function begin(environment: Record<string, string> = {}): Promise<void> {
    service = await ServiceProcess.start(database.url, {
      ...FAULT_SETTINGS,
      WORKERS: '2',
      LOG_LEVEL: 'info',
      DRAIN_SECONDS: '0.3',
      ...environment,
    });
    admin = { adminUrl: `http://127.0.0.1:${service.environment['ADMIN_PORT']}` };
    await ready(1);
  }

  afterEach(async () => {
    await service?.terminate();
    await database?.drop();
  });

  /** Waits until the service has said so often that it, or its rolling restart, is done. */
  const said = (msg: string, times: number): Promise<unknown> =>
    waitFor(() => logOf(service).filter((line) => line.msg === msg).length >= times, {
      what: () => `${times} × "${msg}" in ${service.stderr.slice(-2000)}`,
      timeoutMs: 60_000,
    });
  const ready = (times: number): Promise<unknown> => said('ready', times);

  const stage = () => ({
    pool: database.pool,
    databaseUrl: database.url,
    world,
    where: () => service.url,
  });

  it('SIGHUP replaces them one after the other: there is always one, and nothing is lost', async () => {
    await begin();
    let rolls = 0;
    let connects = 0;
    const { resumes } = await underFault('rolling restart of workers', stage(), async ({ flowing }) => {
      const before = workerPids(service).slice(-2);
      rolls += 1;
      service.signal('SIGHUP');
      while (logOf(service).filter(({ msg }) => msg === 'rolling restart done').length < rolls) {
        const now = await metric(admin, 'settlewire_connects_total');
        expect(now, 'counts only go up, though those who counted go').to.be.at.least(connects);
        connects = now;
        // Who was given to a worker that is told to leave at that moment is told to come again, and is given to another one.
        if ((await service.readiness()) !== 200)
          expect(await service.readiness(), 'all the time').to.equal(200);
      }
      for (const pid of before) expect(isAlive(pid), String(pid)).to.equal(false);
      await flowing();
    });
    // 19 of the 26 never drop by themselves; each was on one of the two that left.
    expect(resumes, 'everybody was sent elsewhere').to.be.at.least(19);
    expect(
      await metric(admin, 'settlewire_disconnects_total{reason="draining"}'),
      'counted by those who have gone',
    ).to.be.at.least(19);
    expect(await metric(admin, 'settlewire_worker_exits_total{why="rolled"}')).to.equal(2 * rolls);
    expect(await metric(admin, 'settlewire_worker_exits_total{why="crashed"}')).to.equal(0);
    expect(await metric(admin, 'settlewire_connections_dropped')).to.equal(0);
  });

  it('killed with -9, one after the other: each is replaced, and nothing is lost', async () => {
    await begin();
    let deaths = 0;
    await underFault('a worker killed with -9', stage(), async ({ flowing }) => {
      for (let n = 0; n < 2; n += 1) {
        const victim = at(workerPids(service).filter(isAlive), 0);
        const already = workerPids(service).length;
        process.kill(victim, 'SIGKILL');
        deaths += 1;
        await flowing();
        await waitFor(() => workerPids(service).length > already, {
          what: 'its successor',
          timeoutMs: 30_000,
        });
        await flowing();
      }
    });
    expect(await metric(admin, 'settlewire_worker_exits_total{why="crashed"}')).to.equal(deaths);
    expect(await metric(admin, 'settlewire_workers{state="ready"}')).to.equal(2);
    const lines = logOf(service).filter(({ msg }) => msg === 'a worker has died');
    expect(lines.map(({ how }) => how)).to.deep.equal(Array.from({ length: deaths }, () => 'SIGKILL'));
  });

  it('that hangs is killed and replaced; meanwhile the others take who comes, and nothing is lost', async () => {
    await begin({ WORKER_SILENCE_SECONDS: '8' });
    await underFault('a worker that hangs', stage(), async ({ audience, flowing }) => {
      const victim = at(workerPids(service).filter(isAlive), 0);
      const already = workerPids(service).length;
      process.kill(victim, 'SIGSTOP');
      // Whoever is given to it before it counts as silent waits until it is killed; who comes then does not.
      await waitFor(async () => (await metric(admin, 'settlewire_connections_waiting')) > 0, {
        what: 'connections that it does not take',
        timeoutMs: 30_000,
      });
      await said('a worker says nothing', 1);
      await waitFor(() => workerPids(service).length > already, { what: 'its successor', timeoutMs: 60_000 });
      expect(isAlive(victim)).to.equal(false);
      await waitFor(() => audience.calm.every(({ live }) => live), {
        what: 'all to be live',
        timeoutMs: 30_000,
      });
      await flowing();
    });
    expect(await metric(admin, 'settlewire_connections_waiting')).to.equal(0);
    expect(await metric(admin, 'settlewire_connections_dropped')).to.equal(0);
  });

  it('whose supervisor is killed with -9: they end by themselves, another one takes the port, and nothing is lost', async () => {
    await begin();
    await underFault('the supervisor killed with -9', stage(), async ({ flowing }) => {
      const orphans = workerPids(service);
      await service.kill();
      await waitFor(() => !orphans.some(isAlive), { what: 'the workers to end' });
      await service.start();
      await ready(1);
      await flowing();
    });
  });

  describe('one that dies in a rolling restart, while its successor starts,', () => {
    let blockade: Blockade;

    beforeEach(async () => {
      await begin();
      blockade = await Blockade.of(database.pool, 'outbox_migration');
      service.signal('SIGHUP');
      await blockade.waiting('outbox_migration');
      const ready = logOf(service).filter(({ msg }) => msg === 'worker ready');
      const first = ready.find(
        ({ worker }) => worker === Math.min(...ready.map((line) => Number(line['worker']))),
      );
      process.kill(Number(first?.['pid']), 'SIGKILL');
      await said('a worker has died', 1);
    });

    it('has been replaced by it: there are as many as before, not one more', async () => {
      await blockade.lift();
      await said('rolling restart done', 1);
      const count = (state: string) => metric(admin, `settlewire_workers{state="${state}"}`);
      expect([await count('starting'), await count('ready')]).to.deep.equal([0, 2]);
      expect(await metric(admin, 'settlewire_worker_exits_total{why="crashed"}')).to.equal(1);
      expect(await metric(admin, 'settlewire_worker_exits_total{why="rolled"}')).to.equal(1);
      expect(await service.readiness()).to.equal(200);
    });

    it('is replaced by another one if that cannot start', async () => {
      await blockade.meanwhile("delete from outbox_migration where name like '%domain%'");
      await blockade.lift();
      await said('rolling restart given up: the old workers stay', 1);
      await said('a worker could not start', 3);
      expect(await service.readiness(), 'by the one that is left').to.equal(200);
      expect(await service.terminate()).to.deep.equal({ code: 0, signal: null });
    });
  });

  it('that cannot be replaced stay: a rolling restart is given up, and a dead one is tried for again and again', async () => {
    await begin();
    const pids = workerPids(service);
    // Migrations are missing, as if a new version had been put in place of the old one.
    await database.pool.query("delete from outbox_migration where name like '%domain%'");
    service.signal('SIGHUP');
    await said('rolling restart given up: the old workers stay', 1);
    expect(pids.map(isAlive)).to.deep.equal([true, true]);
    expect(await service.readiness()).to.equal(200);
    process.kill(at(pids, 0), 'SIGKILL');
    await said('a worker could not start', 3);
    expect(await service.readiness(), 'by the one that is left').to.equal(200);
    const readiness = await fetch(`${admin.adminUrl}/readyz`);
    expect([readiness.status, await readiness.json()]).to.deep.equal([
      503,
      { status: 'unavailable', workers: 2, ready: 1 },
    ]);
    const reasons = logOf(service).filter(({ msg }) => msg === 'a worker could not start');
    for (const { reason } of reasons) expect(reason).to.match(/^migrations are missing/);
    expect(await metric(admin, 'settlewire_worker_exits_total{why="failed"}')).to.be.at.least(3);
    expect(await service.terminate()).to.deep.equal({ code: 0, signal: null });
  });
});
