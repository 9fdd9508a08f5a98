import { expect } from 'chai';
import { pino } from 'pino';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

interface Line {
  readonly level: number;
  readonly msg: string;
  readonly requestId?: string;
  readonly [key: string]: unknown;
}

describe('the log of requests', () => {
  let database: TestDatabase;
  let service: Service;
  let ana: Person;
  const lines: Line[] = [];

  before(async () => {
    database = await createTestDatabase();
    ana = await makePerson(database.pool, 1);
    const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(JSON.parse(line)) });
    service = await startService(database.url, {}, { log });
  });

  after(async () => {
    await service.stop();
    await database.drop();
  });

  const about = (requestId: string | null): Promise<Line> =>
    waitFor(() => lines.find((line) => line.requestId === requestId), { what: `a line about ${requestId}` });
  const ask = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`${service.url}${path}`, { headers: { Authorization: `Bearer ${ana.token}`, ...headers } });

  it('has a line for each answer, with the id that the answer carries; without the query', async () => {
    const response = await ask('/v1/cursor?ticket=secret-ticket');
    const line = await about(response.headers.get('X-Request-Id'));
    expect(line.requestId).to.match(/^[0-9a-f]{16}$/);
    expect(line).to.include({
      level: 30,
      msg: 'answered',
      method: 'GET',
      path: '/v1/cursor',
      status: response.status,
    });
    expect(line['ms']).to.be.a('number');
    expect(JSON.stringify(lines)).not.to.include('secret-ticket').and.not.include(ana.token);
    const [one, two] = [await ask('/v1/cursor'), await ask('/v1/cursor')].map(({ headers }) =>
      headers.get('X-Request-Id'),
    );
    expect(one).not.to.equal(two);
  });

  it("takes a proxy's id, if it is one", async () => {
    const given = await ask('/v1/nothing', { 'X-Request-Id': 'proxy-1.2_3' });
    expect(given.headers.get('X-Request-Id')).to.equal('proxy-1.2_3');
    expect(await about('proxy-1.2_3')).to.include({ status: 404 });
    for (const bad of ['a b', '"', 'x'.repeat(65), '{}'])
      expect((await ask('/v1/cursor', { 'X-Request-Id': bad })).headers.get('X-Request-Id')).to.match(
        /^[0-9a-f]{16}$/,
      );
  });

  it('says little of health checks, and little of long paths', async () => {
    const health = await ask('/healthz');
    expect(await about(health.headers.get('X-Request-Id'))).to.include({ level: 20 });
    const long = await ask(`/v1/${'x'.repeat(3000)}`);
    expect((await about(long.headers.get('X-Request-Id')))['path']).to.have.length(200);
  });

  it('has the beginning and the end of a stream, and who ended it', async () => {
    const of = (requestId: string, msg: string): Promise<Line> =>
      waitFor(() => lines.find((line) => line.requestId === requestId && line.msg === msg), {
        what: `${requestId} ${msg}`,
      });
    const gone = await SseClient.open(`${service.url}/v1/events`, ana.token, { 'X-Request-Id': 'goes' });
    await gone.caughtUp();
    expect(await of('goes', 'stream opened')).to.include({ level: 30, topics: 'feed' });
    gone.close();
    expect(await of('goes', 'stream closed')).to.include({ reason: 'client' });

    const sent = await SseClient.open(`${service.url}/v1/events?topic=user:${ana.id}`, ana.token, {
      'X-Request-Id': 'sent',
    });
    await sent.caughtUp();
    expect(await of('sent', 'stream opened')).to.include({ topics: 1 });
    await database.pool.query('update users set is_active = false where id = $1', [ana.id]);
    await sent.untilEnded();
    expect(await of('sent', 'stream closed')).to.include({ reason: 'session_revoked' });
  });
});
