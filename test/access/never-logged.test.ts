import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { SseClient } from '../support/sse-client.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

describe('credentials in the log', () => {
  let database: TestDatabase;
  let service: ServiceProcess;
  let person: Person;

  before(async () => {
    database = await createTestDatabase();
    person = await makePerson(database.pool, 1);
    service = await ServiceProcess.start(database.url, { LOG_LEVEL: 'trace', MIGRATE: 'off' });
  });
  after(async () => {
    await service.terminate();
    await database.drop();
  });

  const call = async (method: string, path: string, headers: Record<string, string>, body?: string) => {
    const response = await fetch(service.url + path, {
      method,
      headers,
      ...(body === undefined ? {} : { body }),
    });
    const type = response.headers.get('content-type') ?? '';
    if (type.startsWith('text/event-stream')) await response.body?.cancel();
    else await response.text();
    return response;
  };

  it('are nowhere, of whatever kind, wherever they were sent, whatever became of them, at any level', async () => {
    const exp = Math.floor(Date.now() / 1000) + 600;
    const access = mintToken({ sub: person.id, jti: 'a jti of this test', exp });
    const Authorization = `Bearer ${access}`;
    const session = await call('POST', '/v1/session', { Authorization });
    const cookie = /=([^;]*)/.exec(session.headers.get('set-cookie') ?? '')?.[1] ?? '';
    const { ticket } = (await (
      await fetch(`${service.url}/v1/tickets`, { method: 'POST', headers: { Authorization } })
    ).json()) as { ticket: string };
    const client = await SseClient.open(`${service.url}/v1/events`, access);
    const resume = String((await client.message('session')).data['resumeToken']);
    client.close();
    const good = { access, cookie, ticket, resume };

    const tokens: string[] = [];
    const everywhere = async (token: string, everyPath = false) => {
      tokens.push(token);
      const places: [string, Record<string, string>][] = [
        ['', { Authorization: `Bearer ${token}` }],
        ['', { Authorization: token }],
        ['', { Cookie: `settlewire_session=${token}` }],
        [`ticket=${token}`, {}],
        [`resume=${token}`, {}],
        [`ticket=${token}&resume=${token}`, {}],
        [`access_token=${token}`, {}],
        [`lastEventId=${token}`, { Authorization }],
        [`topic=${token}`, { Authorization }],
        ['', { 'Last-Event-ID': token, Authorization }],
      ];
      await Promise.all(
        places.flatMap(([query, headers]) => [
          ...(everyPath ? ['/v1/events', '/v1/snapshot', '/v1/cursor', '/v1/nowhere'] : ['/v1/events']).map(
            (path) => call('GET', `${path}?${query}`, headers),
          ),
          call('POST', `/v1/session?${query}`, headers),
          call(
            'POST',
            `/v1/tickets?${query}`,
            { ...headers, 'Content-Type': 'text/plain' },
            `{"token":"${token}"`,
          ),
          call('DELETE', `/v1/session?${query}`, headers),
        ]),
      );
    };
    const cut = (token: string) => token.slice(0, -6);
    for (const token of Object.values(good)) {
      await everywhere(token, true);
      await everywhere(cut(token));
      await everywhere(`${token.slice(0, token.indexOf('.'))}.${token.slice(token.indexOf('.') + 3)}`);
    }
    // Errors with all that pg knows of them, as the queries fail.
    await database.pool.query('alter table users rename to away');
    for (const token of Object.values(good)) await everywhere(token);
    await database.pool.query('alter table away rename to users');

    const log = () => service.stdout + service.stderr;
    await waitFor(() => log().includes('request failed') && log().includes('the database did not answer'), {
      what: `the failures to be logged, of ${log()}`,
    });
    expect(log()).to.include('/v1/session');
    for (const token of tokens) {
      const [, payload = '', signature = ''] = token.split('.');
      for (const part of [token, payload, signature])
        if (part.length > 10) expect(log().includes(part), part).to.equal(false);
    }
    for (const secret of [
      'a jti of this test',
      service.environment['JWT_SECRET'] ?? '-',
      'Bearer ',
      'ticket=',
      'resume=',
    ])
      expect(log().includes(secret), secret).to.equal(false);
  }).timeout(120_000);
});
