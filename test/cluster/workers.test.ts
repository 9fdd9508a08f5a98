import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { metric } from '../support/metrics.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { SseClient } from '../support/sse-client.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { isAlive, logOf, workerPids } from '../support/worker-log.ts';
import { makePerson, makeStream, type Person } from '../support/world.ts';

interface Subscriptions {
  readonly total: number;
  readonly next: number | null;
  readonly subscriptions: readonly { readonly number: number; readonly state: string }[];
}

/** Numbers are given in steps of so many, with a remainder for each worker. */
const STEP = 1024;

describe('two workers on one port', function () {
  this.timeout(60_000);
  let database: TestDatabase;
  let service: ServiceProcess;
  let person: Person;
  let topic: string;
  const clients: SseClient[] = [];
  let admin: { adminUrl: string };

  before(async () => {
    database = await createTestDatabase();
    person = await makePerson(database.pool, 1);
    topic = `stream:${await makeStream(database.pool, person, person)}`;
    service = await ServiceProcess.start(database.url, {
      WORKERS: '2',
      LOG_LEVEL: 'info',
      SAFETY_POLL_MS: '500',
      HEADERS_SECONDS: '1',
    });
    admin = { adminUrl: `http://127.0.0.1:${service.environment['ADMIN_PORT']}` };
    await waitFor(() => logOf(service).some(({ msg }) => msg === 'ready'), { what: 'both to be ready' });
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await waitFor(async () => (await metric(admin, 'settlewire_subscribers')) === 0, { what: 'empty hubs' });
  });

  after(async () => {
    // Not killed: a process that ends by itself tells what it has covered.
    await service?.terminate();
    await database?.drop();
  });

  async function open(path: string, token?: string): Promise<SseClient> {
    const client = await SseClient.open(service.url + path, token);
    clients.push(client);
    return client.caughtUp();
  }

  const openAll = (count: number, path: string, token?: string): Promise<SseClient[]> =>
    Promise.all(Array.from({ length: count }, () => open(path, token)));

  async function subscriptions(query = ''): Promise<Subscriptions> {
    return (await (await fetch(`${admin.adminUrl}/v1/subscriptions${query}`)).json()) as Subscriptions;
  }

  /** How many streams each worker has. */
  async function spread(): Promise<number[]> {
    const counts = new Map<number, number>();
    for (const { number } of (await subscriptions('?limit=1000')).subscriptions)
      counts.set(number % STEP, (counts.get(number % STEP) ?? 0) + 1);
    return [...counts.values()];
  }

  async function publish(count: number): Promise<void> {
    await database.pool.query(
      `select outbox_publish($1, 'test:happened', json_build_object('n', n)) from generate_series(1, $2) n`,
      [topic, count],
    );
  }

  it('share the streams evenly, each follows the outbox by itself, and everybody gets everything', async () => {
    expect(new Set(workerPids(service)).size).to.equal(2);
    const all = await openAll(20, `/v1/events?topic=${topic}`, person.token);
    expect(await spread()).to.deep.equal([10, 10]);
    await publish(50);
    await Promise.all(all.map((client) => client.received(50)));
    for (const { ids } of all) expect(ids).to.deep.equal(all[0]?.ids);
    const relays = await database.pool.query(
      "select from pg_stat_activity where application_name = 'settlewire relay' and datname = current_database()",
    );
    expect(relays.rowCount).to.equal(2);
  });

  it('have one page of metrics: counts and sizes added up, of what cannot be added the worst', async () => {
    const [events, connects] = [
      await metric(admin, 'settlewire_relay_events'),
      await metric(admin, 'settlewire_connects_total'),
    ];
    const client = await open(`/v1/events?topic=${topic}`, person.token);
    const topics = await metric(admin, 'settlewire_topics');
    await openAll(5, `/v1/events?topic=${topic}`, person.token);
    await publish(4);
    const head = Number((await client.received(4)).at(-1)?.id);
    await waitFor(async () => (await metric(admin, 'settlewire_cursor')) === head, {
      what: 'both to be there',
    });
    expect(await metric(admin, 'settlewire_subscribers')).to.equal(6);
    expect(await metric(admin, 'settlewire_topics'), 'once for each worker').to.equal(2 * topics);
    expect(await metric(admin, 'settlewire_connects_total')).to.equal(connects + 6);
    expect(await metric(admin, 'settlewire_relay_events'), 'each reads each event').to.equal(events + 8);
    expect(await metric(admin, 'settlewire_relay_caught_up')).to.equal(1);
    expect(await metric(admin, 'settlewire_workers{state="ready"}')).to.equal(2);
    expect(await metric(admin, 'settlewire_workers_answered')).to.equal(2);
    expect(await metric(admin, 'settlewire_connections_waiting')).to.equal(0);
    const text = await (await fetch(`${admin.adminUrl}/metrics`)).text();
    for (const name of [
      'process_resident_memory_bytes',
      'process_start_time_seconds',
      'nodejs_eventloop_lag_p99_seconds',
    ])
      expect(text.match(new RegExp(`^${name} \\S+$`, 'gm')), name).to.have.length(1);
    expect(text).to.match(/^# TYPE settlewire_relay_events counter$/m);
    const page = await readFile('docs/operations.md', 'utf8');
    for (const [, name = ''] of text.matchAll(/^# TYPE (settlewire_\w+) /gm))
      expect(page, name).to.contain(name);
  });

  it('have one list of subscriptions, page by page, in which no number comes twice', async () => {
    await openAll(7, '/v1/events', person.token);
    const numbers: number[] = [];
    let after: number | null = 0;
    while (after !== null) {
      const page: Subscriptions = await subscriptions(`?limit=2&after=${after}`);
      expect(page.total).to.equal(7);
      expect(page.subscriptions.length).to.be.within(1, 2);
      numbers.push(...page.subscriptions.map(({ number }) => number));
      after = page.next;
    }
    expect(numbers).to.have.length(7);
    expect(numbers).to.deep.equal([...new Set(numbers)].toSorted((a, b) => a - b));
    expect((await fetch(`${admin.adminUrl}/v1/subscriptions?limit=0`)).status).to.equal(400);
  });

  it('take what the other has signed: tickets, resume tokens, cookies', async () => {
    const headers = { Authorization: `Bearer ${person.token}` };
    const ticket = await (await fetch(`${service.url}/v1/tickets`, { method: 'POST', headers })).json();
    await openAll(4, `/v1/events?ticket=${(ticket as { ticket: string }).ticket}`);
    expect(await spread(), 'by ticket').to.deep.equal([2, 2]);
    const { data } = await (await open(`/v1/events?topic=${topic}`, person.token)).message('session');
    const query = `topic=${topic}&resume=${encodeURIComponent(String(data['resumeToken']))}`;
    await openAll(3, `/v1/events?${query}`);
    expect(await spread(), 'by resume token').to.deep.equal([4, 4]);
    const session = await fetch(`${service.url}/v1/session`, { method: 'POST', headers });
    const cookie = /^[^;]+/.exec(session.headers.get('set-cookie') ?? '')?.[0] ?? '';
    for (let n = 0; n < 2; n += 1) {
      const client = await SseClient.open(`${service.url}/v1/events`, undefined, { Cookie: cookie });
      clients.push(client);
      await client.caughtUp();
    }
    expect(await spread(), 'by cookie').to.deep.equal([5, 5]);
  });

  it('end the streams of a revoked credential, whichever has them', async () => {
    const token = mintToken({ sub: person.id, jti: 'one-that-is-stolen' });
    const theirs = await openAll(6, '/v1/events', token);
    const others = await openAll(2, '/v1/events', person.token);
    const revoked = await fetch(`${admin.adminUrl}/v1/revocations`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ jti: 'one-that-is-stolen' }),
    });
    expect(revoked.status).to.equal(200);
    expect(((await revoked.json()) as { eventId: number }).eventId).to.be.above(0);
    await Promise.all(theirs.map((client) => client.untilEnded()));
    for (const { messages } of theirs)
      expect(messages.at(-1)).to.deep.include({ type: 'disconnect', id: undefined });
    for (const client of others) expect(client.ended).to.equal(false);
    for (let n = 0; n < 4; n += 1) {
      const answer = await fetch(`${service.url}/v1/cursor`, {
        headers: { Authorization: `Bearer ${token}`, Connection: 'close' },
      });
      expect(answer.status).to.equal(401);
    }
  });

  it('are ready as an instance when all of them are', async () => {
    const answer = await fetch(`${admin.adminUrl}/readyz`);
    expect([answer.status, await answer.json()]).to.deep.equal([
      200,
      { status: 'ready', workers: 2, ready: 2 },
    ]);
  });

  it('give a client no more time for its headers than one process does', async () => {
    const socket = connect(Number(service.environment['PORT']), '127.0.0.1');
    let answer = '';
    socket.setEncoding('latin1').on('data', (text: string) => {
      answer += text;
    });
    socket.write('GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ');
    await waitFor(() => socket.readableEnded || socket.destroyed, { what: 'the end of patience' });
    expect(answer)
      .to.match(/^HTTP\/1\.1 408 /)
      .and.to.include('request_timeout');
  });

  it('leave signals to their supervisor, which a terminal sends to all of them', async () => {
    for (const pid of workerPids(service))
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.kill(pid, signal);
    const all = await openAll(4, '/v1/events', person.token);
    expect(await spread()).to.deep.equal([2, 2]);
    for (const pid of workerPids(service)) expect(isAlive(pid)).to.equal(true);
    for (const { ended } of all) expect(ended).to.equal(false);
  });
});
