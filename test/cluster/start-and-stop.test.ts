import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import { expect } from 'chai';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts';
import { metric } from '../support/metrics.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { isAlive, logOf, workerPids } from '../support/worker-log.ts';
import { makePerson, type Person } from '../support/world.ts';

/** Whether it is ready, over a connection of the agent's. */
async function ask(
  url: string,
  agent: Agent | undefined,
): Promise<{ status: number | undefined; reused: boolean; socket: Socket }> {
  const asked = request(`${url}/readyz`, { agent: agent ?? false });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const { socket } = response;
  response.resume();
  await once(response, 'end');
  return { status: response.statusCode, reused: asked.reusedSocket, socket };
}

describe('several workers, started and stopped', function () {
  this.timeout(60_000);
  const processes: ServiceProcess[] = [];
  const databases: TestDatabase[] = [];

  afterEach(async () => {
    await Promise.all(processes.splice(0).map((process) => process.kill()));
    await Promise.all(databases.splice(0).map((database) => database.drop()));
  });

  async function make(environment: Record<string, string>): Promise<ServiceProcess> {
    const made = await ServiceProcess.create({ WORKERS: '2', ...environment });
    processes.push(made);
    return made;
  }

  async function keep(database: Promise<TestDatabase>): Promise<TestDatabase> {
    databases.push(await database);
    return database;
  }

  async function run(environment: Record<string, string>): Promise<{ code: number | null; lines: string[] }> {
    const made = await make(environment);
    made.spawn();
    const { code } = await made.exit;
    return { code, lines: made.stderr.trimEnd().split('\n') };
  }

  describe('what cannot start', () => {
    it('migrations that are missing: one line, 1, and no worker is tried again', async () => {
      const { url } = await keep(createEmptyDatabase());
      const { code, lines } = await run({ DATABASE_URL: url, MIGRATE: 'off' });
      expect(lines).to.have.length(1);
      expect(lines[0]).to.match(
        /^settlewire: migrations are missing, run settlewire migrate: 0001_outbox_\w+/,
      );
      expect(code).to.equal(1);
    });

    it('a database that is not there, which only the workers ask: one line that says so, and 1', async () => {
      const { code, lines } = await run({
        DATABASE_URL: 'postgres://a:secret@127.0.0.1:1/b',
        MIGRATE: 'off',
      });
      expect([code, lines.length]).to.deep.equal([1, 1]);
      expect(lines[0])
        .to.match(/^settlewire: DATABASE_URL: no connection to 127\.0\.0\.1:1\/b: /)
        .and.not.to.contain('secret');
    });

    for (const name of ['PORT', 'ADMIN_PORT'])
      it(`${name} in use: one line that names the port`, async () => {
        const { url } = await keep(createTestDatabase());
        const other = createServer().listen(0, '127.0.0.1');
        await once(other, 'listening');
        const port = String((other.address() as { port: number }).port);
        const { code, lines } = await run({ DATABASE_URL: url, [name]: port });
        other.close();
        expect([code, lines.length]).to.deep.equal([1, 1]);
        expect(lines[0])
          .to.match(/^settlewire: .*in use/)
          .and.to.include(port);
      });
  });

  it('that take nothing: as many connections wait for them as MAX_OTHER_CONNECTIONS says, and the next is closed', async () => {
    const { url } = await keep(createTestDatabase());
    const service = await ServiceProcess.start(url, {
      WORKERS: '2',
      LOG_LEVEL: 'info',
      MAX_OTHER_CONNECTIONS: '3',
    });
    processes.push(service);
    await waitFor(() => logOf(service).some(({ msg }) => msg === 'ready'), { what: 'both to be ready' });
    const admin = { adminUrl: `http://127.0.0.1:${service.environment['ADMIN_PORT']}` };
    const pids = workerPids(service);
    for (const pid of pids) process.kill(pid, 'SIGSTOP');
    const waiting = [1, 2, 3].map(() => ask(service.url, undefined));
    await waitFor(() => metric(admin, 'settlewire_connections_waiting').then((count) => count === 3), {
      what: 'three to wait',
      timeoutMs: 30_000,
    });
    expect(await ask(service.url, undefined).catch(({ code }) => code)).to.equal('ECONNRESET');
    const page = await (await fetch(`${admin.adminUrl}/metrics`)).text();
    expect(page).to.match(/^settlewire_connections_dropped 1$/m);
    expect(page, 'nobody answers').to.match(/^settlewire_workers_answered 0$/m);
    const unready = await fetch(`${admin.adminUrl}/readyz`);
    expect([unready.status, await unready.json()]).to.deep.equal([
      503,
      { status: 'unavailable', workers: 2, ready: 0 },
    ]);
    for (const pid of pids) process.kill(pid, 'SIGCONT');
    for (const { status } of await Promise.all(waiting)) expect(status).to.equal(200);
  });

  describe('a drain', () => {
    async function connect(
      count: number,
      environment: Record<string, string>,
    ): Promise<{ service: ServiceProcess; clients: SseClient[]; person: Person }> {
      const database = await keep(createTestDatabase());
      const person = await makePerson(database.pool, 1);
      const service = await ServiceProcess.start(database.url, {
        WORKERS: '2',
        LOG_LEVEL: 'info',
        ...environment,
      });
      processes.push(service);
      await waitFor(() => logOf(service).some(({ msg }) => msg === 'ready'), { what: 'both to be ready' });
      const clients = await Promise.all(
        Array.from({ length: count }, async () =>
          (await SseClient.open(`${service.url}/v1/events`, person.token)).caughtUp(),
        ),
      );
      return { service, clients, person };
    }

    it('by SIGTERM: all workers send their clients away, and those who come, end, and the whole exits with 0', async () => {
      const { service, clients, person } = await connect(8, { DRAIN_SECONDS: '3' });
      const pids = workerPids(service);
      service.signal('SIGTERM');
      await waitFor(async () => (await service.readiness()) === 503, { what: 'readyz to say so' });
      const late = await SseClient.open(`${service.url}/v1/events`, person.token);
      await late.untilEnded();
      expect(late.messages.map(({ data }) => data['reason'])).to.deep.equal(['draining']);
      expect(await service.exit).to.deep.equal({ code: 0, signal: null });
      for (const client of clients) {
        await client.untilEnded();
        expect(client.messages.at(-1)?.data['reason']).to.equal('draining');
      }
      const draining = logOf(service).filter(({ msg }) => msg === 'draining');
      expect(draining.map(({ subscribers }) => subscribers)).to.deep.equal([4, 4]);
      expect(new Set(draining.map(({ worker }) => worker)).size, 'each line says whose it is').to.equal(2);
      expect(pids.map(isAlive)).to.deep.equal([false, false]);
    });

    it('a second signal, more than a second later, ends all of them at once', async () => {
      const { service, clients } = await connect(4, { DRAIN_SECONDS: '600' });
      const pids = workerPids(service);
      await waitFor(
        () => {
          service.signal('SIGINT');
          return !service.running;
        },
        { what: 'the end' },
      );
      expect(await service.exit).to.deep.equal({ code: 1, signal: null });
      await waitFor(() => !pids.some(isAlive), { what: 'the workers to end' });
      for (const client of clients) await client.untilEnded();
    });

    it('of one worker, in a rolling restart: at once it lets go of connections that are kept for a next request', async () => {
      // Ten streams of each; the last of them goes after nine tenths of the time, if it is waited for.
      const { service, clients } = await connect(20, { DRAIN_SECONDS: '600' });
      const agents = [1, 2].map(() => new Agent({ keepAlive: true, maxSockets: 1 }));
      const kept = await Promise.all(agents.map((agent) => ask(service.url, agent)));
      expect(kept.map(({ reused }) => reused)).to.deep.equal([false, false]);
      for (const agent of agents) expect((await ask(service.url, agent)).reused, 'is kept').to.equal(true);
      service.signal('SIGHUP');
      const index = await Promise.race(kept.map(({ socket }, n) => once(socket, 'close').then(() => n)));
      expect(clients.filter(({ ended }) => !ended).length, 'most are still there').to.be.above(10);
      const { status, reused } = await ask(service.url, agents[index]);
      expect([status, reused], 'by a worker that stays').to.deep.equal([200, false]);
      for (const agent of agents) agent.destroy();
    });

    it('before they are ready: nothing is left behind', async () => {
      const { url, pool } = await keep(createTestDatabase());
      const service = await make({ DATABASE_URL: url, LOG_LEVEL: 'info', MIGRATE: 'off' });
      const blocker = await pool.connect();
      try {
        await blocker.query('begin; lock table outbox_meta in access exclusive mode');
        service.spawn();
        // Alive at once, ready only when caught up.
        await waitFor(async () => (await service.readiness()) === 503, {
          what: 'a worker',
          timeoutMs: 30_000,
        });
        service.signal('SIGHUP');
        service.signal('SIGTERM');
        await blocker.query('rollback');
        expect(await service.exit).to.deep.equal({ code: 0, signal: null });
        expect(workerPids(service).some(isAlive)).to.equal(false);
      } finally {
        blocker.release();
      }
    });
  });
});
