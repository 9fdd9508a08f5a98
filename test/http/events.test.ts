import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { SseClient } from '../support/sse-client.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';

describe('GET /v1/events', () => {
  let database: TestDatabase;
  let service: Service;
  let payer: Person;
  let recipient: Person;
  let stranger: Person;
  let stream: string;
  const clients: SseClient[] = [];

  before(async () => {
    database = await createTestDatabase();
    payer = await makePerson(database.pool, 1);
    recipient = await makePerson(database.pool, 2);
    stranger = await makePerson(database.pool, 3);
    stream = await makeStream(database.pool, payer, recipient);
    service = await startService(database.url);
  });

  after(async () => {
    for (const client of clients) client.close();
    await service.stop();
    await database.drop();
  });

  async function connect(path: string, token?: string, headers?: Record<string, string>): Promise<SseClient> {
    const client = await SseClient.open(service.url + path, token, headers);
    clients.push(client);
    return client;
  }

  async function setRate(rate: string): Promise<void> {
    await database.pool.query('update streams set rate_per_second = $1 where id = $2', [rate, stream]);
  }

  it('delivers a committed change to its people, and to nobody else', async () => {
    const [theirs, others] = await Promise.all([
      connect('/v1/events', recipient.token),
      connect('/v1/events', stranger.token),
    ]);
    await theirs.caughtUp();
    await others.caughtUp();
    await setRate('0.5');
    const [event] = await theirs.received(1);
    expect(event?.type).to.equal('stream:updated');
    expect(event?.data).to.include({ streamId: stream, ratePerSecond: '0.500000000' });
    expect(event?.id).to.equal(String((await outboxIds(database.pool)).at(-1)));
    await others.message('cursor');
    expect(others.events).to.deep.equal([]);
  });
});
