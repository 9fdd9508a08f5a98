import { expect } from 'chai';
import { ConnectionLimits } from '../../src/http/connection-limits.ts';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

describe('connection limits', () => {
  let database: TestDatabase;
  let service: Service;
  let people: Person[];
  const clients: SseClient[] = [];

  before(async () => {
    database = await createTestDatabase();
    people = [await makePerson(database.pool, 1), await makePerson(database.pool, 2)];
    service = await startService(database.url, { MAX_CONNECTIONS: '5', MAX_CONNECTIONS_PER_ACTOR: '3' });
  });

  after(async () => {
    await service.stop();
    await database.drop();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await waitFor(() => service.hub.subscribers.size === 0, { what: 'the hub to be empty' });
  });

  async function connect(count: number, person: Person | undefined, headers = {}): Promise<SseClient[]> {
    const opened = await Promise.all(
      Array.from({ length: count }, () => SseClient.open(`${service.url}/v1/events`, person?.token, headers)),
    );
    clients.push(...opened);
    return opened;
  }

  function refused(opened: readonly SseClient[]): Promise<SseClient[]> {
    return Promise.all(
      opened.map(async (client) => {
        await waitFor(() => client.messages.length > 0, { what: 'the first message' });
        return client;
      }),
    ).then((all) => all.filter(({ messages }) => messages[0]?.type === 'disconnect'));
  }

  it('lets a burst of one actor in up to the limit and not beyond, and tells the others to come back', async () => {
    const over = await refused(await connect(20, people[0]));
    expect(over).to.have.length(17);
    for (const client of over) {
      expect(client.status).to.equal(200);
      expect(client.messages[0]?.data).to.include({ reason: 'too_many_connections' });
      expect(client.retries).to.have.length(1);
      await client.untilEnded();
    }
    expect(service.hub.subscribers.size).to.equal(3);
  });

  it('counts all actors together, and lets the next one in when somebody leaves', async () => {
    const [first] = await connect(3, people[0]);
    await connect(2, people[1]);
    await waitFor(() => service.hub.subscribers.size === 5, { what: 'five subscribers' });
    expect(await refused(await connect(1, people[1]))).to.have.length(1);
    first?.close();
    await waitFor(() => service.hub.subscribers.size === 4, { what: 'one to leave' });
    expect(await refused(await connect(1, people[1]))).to.have.length(0);
  });

  it('answers a client that did not ask for a stream with 429 and Retry-After', async () => {
    await connect(3, people[0]);
    const [over] = await connect(1, people[0], { Accept: '*/*' });
    expect(over?.status).to.equal(429);
    expect(over?.response?.headers['retry-after']).to.equal('1');
    expect(over?.response?.headers['content-type']).to.match(/^application\/problem\+json/);
  });

  it('gives a place back once, however often it is given back', () => {
    const limits = new ConnectionLimits({ maxConnections: 2, maxConnectionsPerActor: 2 });
    const first = limits.take('a');
    limits.take('b');
    first?.();
    first?.();
    expect(limits.total).to.equal(1);
    expect(limits.take('a')).to.be.a('function');
    expect(limits.take('a')).to.equal(undefined);
  });
});
