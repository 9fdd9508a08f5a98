import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

describe('a drain', function () {
  this.timeout(40_000);
  let database: TestDatabase;
  let service: ServiceProcess;
  let person: Person;

  afterEach(async () => {
    await service?.kill();
    await database?.drop();
  });

  async function connect(count: number, environment: Record<string, string>): Promise<SseClient[]> {
    database = await createTestDatabase();
    person = await makePerson(database.pool, 1);
    service = await ServiceProcess.start(database.url, { RETRY_MS: '2000', ...environment });
    return Promise.all(
      Array.from({ length: count }, async () =>
        (await SseClient.open(`${service.url}/v1/events`, person.token)).caughtUp(),
      ),
    );
  }

  it('every subscriber is sent away with a reason and a time, one after the other, and the process exits with 0', async () => {
    const clients = await connect(12, { DRAIN_SECONDS: '1.2' });
    const startedAt = performance.now();
    const endings: number[] = [];
    const watching = clients.map(async (client) => {
      await client.untilEnded();
      endings.push(performance.now() - startedAt);
    });
    expect(await service.terminate()).to.deep.equal({ code: 0, signal: null });
    await Promise.all(watching);
    for (const { messages, retries, raw } of clients) {
      const { type, data, id } = messages.at(-1) ?? {};
      expect([type, id, data?.['reason']]).to.deep.equal(['disconnect', undefined, 'draining']);
      expect(data?.['retryAfterMs']).to.equal(retries.at(-1)).and.to.be.within(1000, 3000);
      expect(raw).to.match(
        /\nretry: \d+\nevent: disconnect\ndata: \{"reason":"draining","retryAfterMs":\d+\}\n\n$/,
      );
    }
    expect(new Set(clients.map(({ retries }) => retries.at(-1))).size, 'jittered').to.be.greaterThan(6);
    // One in each twelfth of the time.
    endings.sort((a, b) => a - b);
    expect(endings[0]).to.be.below(400);
    expect(endings[5]).to.be.within(400, 1000);
    expect(endings[11]).to.be.within(1000, 2200);
  });

  it('who comes during the drain is sent away: in the stream if it asked for one, else with 503', async () => {
    await connect(2, { DRAIN_SECONDS: '3' });
    service.signal('SIGTERM');
    await waitFor(async () => (await service.readiness()) === 503, { what: 'readyz to say so' });
    expect(await (await fetch(`${service.url}/readyz`)).json()).to.deep.equal({ status: 'draining' });
    const refused = await SseClient.open(`${service.url}/v1/events`, person.token);
    await refused.untilEnded();
    expect(refused.status).to.equal(200);
    expect(refused.messages.map(({ type, data }) => [type, data['reason']])).to.deep.equal([
      ['disconnect', 'draining'],
    ]);
    expect(refused.retries).to.have.length(1);
    const other = await fetch(`${service.url}/v1/events`, {
      headers: { Authorization: `Bearer ${person.token}`, Accept: '*/*' },
    });
    expect(other.status).to.equal(503);
    expect(other.headers.get('Content-Type')).to.match(/^application\/problem\+json/);
    expect(Number(other.headers.get('Retry-After'))).to.be.within(1, 3);
    expect(await other.json()).to.include({ code: 'unavailable', status: 503 });
    expect(await service.exit).to.deep.equal({ code: 0, signal: null });
  });

  it('a second signal, more than a second later, ends it at once', async () => {
    await connect(3, { DRAIN_SECONDS: '60' });
    const startedAt = performance.now();
    // The same Ctrl-C arrives twice below npm; that is no second one.
    await waitFor(
      () => {
        service.signal('SIGINT');
        return !service.running;
      },
      { what: 'the end' },
    );
    expect(performance.now() - startedAt).to.be.within(1000, 3000);
    expect(await service.exit).to.deep.equal({ code: 1, signal: null });
  });
});
