import { expect } from 'chai';
import fc from 'fast-check';
import { rawHttp } from '../support/raw-http.ts';
import { Stage } from '../support/stage.ts';
import { makePerson, makeStream, type Person } from '../support/world.ts';

const UUID = '00000000-0000-4000-8000-000000000000';

describe('a request that cannot be served', () => {
  let stage: Stage;
  let payer: Person;
  let topic: string;

  before(async () => {
    stage = await Stage.open({ MAX_TOPICS_PER_CONNECTION: '5' });
    payer = await makePerson(stage.pool, 1);
    topic = `stream:${await makeStream(stage.pool, payer, payer)}`;
    await stage.settled();
  });

  after(() => stage.close());

  // Whatever was asked before, the service serves the next one.
  afterEach(async () => {
    const client = await stage.connect(`/v1/events?topic=${topic}`, payer.token);
    expect((await client.caughtUp()).status).to.equal(200);
    client.close();
  });

  interface Row {
    readonly method?: string;
    readonly path: string;
    readonly headers?: Record<string, string | string[]>;
    readonly status: number;
    readonly code: string;
    readonly allow?: string;
    readonly anonymous?: true;
  }

  const topics = (count: number) => Array.from({ length: count }, () => 'topic=x:1').join('&');
  const rows: Row[] = [
    ...[
      '/healthz',
      '/readyz',
      '/v1/events',
      `/v1/streams/${UUID}/events`,
      `/v1/escrows/${UUID}/events`,
      '/v1/snapshot',
      '/v1/cursor',
    ].flatMap((path) =>
      ['POST', 'PUT', 'PATCH', 'DELETE', 'TRACE', 'PROPFIND'].map((method) => ({
        ...{ method, path, status: 405, code: 'method_not_allowed', allow: 'GET, HEAD' },
      })),
    ),
    ...['GET', 'HEAD', 'PUT'].map((method) => ({
      ...{ method, path: '/v1/session', status: 405, code: 'method_not_allowed', allow: 'POST, DELETE' },
    })),
    ...[
      '/v1',
      '/v1/',
      '/v1/event',
      '/v1/events/x',
      '/v2/events',
      '/v1/streams',
      '/v1/streams/x',
      '/metrics',
      '/.git/config',
      '//v1/events/..',
    ].map((path) => ({ path, status: 404, code: 'not_found' })),
    ...['/v1/events', '/v1/cursor', '/v1/snapshot', `/v1/streams/${UUID}/events`].map((path) => ({
      ...{ path, status: 401, code: 'unauthenticated', anonymous: true as const },
    })),
    ...[
      'application/json',
      'text/html',
      'text/event-stream;q=0',
      'text/event-stream; charset=utf-8; Q=0.000',
      '*/*, text/event-stream;q=0',
      'text/*;q=0, */*',
      'text/*;q=0, application/json',
      'nonsense',
    ].map((Accept) => ({
      ...{ path: '/v1/events', headers: { Accept }, status: 406, code: 'not_acceptable' },
    })),
    { path: '/v1/events?topic=', status: 400, code: 'invalid_topic' },
    { path: '/v1/events?topic', status: 400, code: 'invalid_topic' },
    { path: `/v1/events?topic=stream:${UUID}&topic=`, status: 400, code: 'invalid_topic' },
    { path: `/v1/events?topic=stream:${UUID},stream:${UUID}`, status: 400, code: 'invalid_topic' },
    ...[
      '%00',
      '%0a',
      '%0d%0aid:%201%0d%0a',
      '%e2%80%a8',
      '%ff',
      '%',
      '%2',
      '%zz',
      '%20',
      "'",
      '%22',
      '..%2f..',
      '*',
    ].map((text) => ({
      ...{ path: `/v1/events?topic=stream:${text}`, status: 400, code: 'invalid_topic' },
    })),
    ...['%00', '%0a', 'a%20b', 'a:b', '%2e%2e%2f'].map((text) => ({
      ...{ path: `/v1/streams/${text}/events`, status: 400, code: 'invalid_topic' },
    })),
    ...['%', '%2', '%zz', '%c0%ae', '%ff'].map((text) => ({
      ...{ path: `/v1/escrows/${text}/events`, status: 400, code: 'bad_request' },
    })),
    ...[
      'topics',
      'topic[]',
      'topic%5B0%5D',
      'Topic',
      'LASTEVENTID',
      'last-event-id',
      'lastEventId[]',
      'tickets',
      'Resume',
    ].map((name) => ({ ...{ path: `/v1/events?${name}=stream:${UUID}`, status: 400, code: 'bad_request' } })),
    { path: `/v1/snapshot?topics=stream:${UUID}`, status: 400, code: 'bad_request' },
    ...['-1', '007', '+1', '0x1', '1e3', '1.0', '9'.repeat(16), '9'.repeat(500)].map((text) => ({
      ...{ path: `/v1/events?lastEventId=${text}`, status: 400, code: 'invalid_cursor' },
    })),
    { path: `/v1/events?${topics(6)}`, status: 400, code: 'too_many_topics' },
    { path: `/v1/events?${topics(1500)}`, status: 400, code: 'too_many_topics' },
    { path: `/v1/snapshot?${topics(6)}`, status: 400, code: 'too_many_topics' },
    { path: '/v1/snapshot?topic=x:1', status: 400, code: 'invalid_topic' },
    ...[
      '1&lastEventId=1',
      '1&lastEventId=',
      '%001',
      '1%0aid:2',
      '-0',
      '1_000',
      '%31%20',
      'Infinity',
      '١',
    ].map((text) => ({
      ...{
        path: `/v1/events?lastEventId=${encodeURI(decodeURI(text))}`,
        status: 400,
        code: 'invalid_cursor',
      },
    })),
    ...[
      'Bearer',
      'Bearer ',
      'Bearer a.b',
      'Bearer a.b.c.d',
      'Bearer ä.ö.ü',
      'Token x.y.z',
      'Bearer x.y.z, Bearer x.y.z',
    ].map((Authorization) => ({
      ...{ path: '/v1/events', headers: { Authorization }, status: 401, code: 'unauthenticated' },
    })),
  ];

  it('is answered with a problem that says which', async () => {
    for (const { method = 'GET', path, headers = {}, status, code, allow, anonymous } of rows) {
      const what = `${method} ${path.slice(0, 100)} ${JSON.stringify(headers)}`;
      const credentials = anonymous ? {} : { Authorization: `Bearer ${payer.token}` };
      const answer = await stage.send(method, path, { ...credentials, ...headers });
      expect(answer.status, what).to.equal(status);
      expect(answer.headers['content-type'], what).to.equal('application/problem+json; charset=utf-8');
      expect(answer.headers['cache-control'], what).to.equal('no-store');
      expect(answer.headers['allow'], what).to.equal(allow);
      expect(answer.headers['www-authenticate'], what).to.equal(status === 401 ? 'Bearer' : undefined);
      if (method === 'HEAD') continue;
      const problem = JSON.parse(answer.body);
      expect(Object.keys(problem), what).to.have.members(['type', 'title', 'status', 'code', 'detail']);
      expect(problem, what).to.include({
        type: 'about:blank',
        status,
        code,
        title: code.replaceAll('_', ' '),
      });
      expect(problem.detail, what).to.be.a('string').that.is.not.equal('');
    }
  });

  it('with headers beyond all measure is refused, and so is what is no HTTP', async () => {
    const { url } = stage.service;
    const lines = `GET /v1/events HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(70_000)}\r\n\r\n`;
    expect(await rawHttp(url, lines)).to.match(/^HTTP\/1\.1 431 /);
    expect(
      await rawHttp(url, `GET /v1/events?topic=${'x'.repeat(70_000)} HTTP/1.1\r\nHost: x\r\n\r\n`),
    ).to.match(/^HTTP\/1\.1 431 /);
    expect(await rawHttp(url, 'HELO there\r\n\r\n')).to.match(/^HTTP\/1\.1 400 /);
    expect(await rawHttp(url, 'GET / HTTP/1.1\r\n\r\n')).to.match(/^HTTP\/1\.1 400 /);
    const twice = `GET /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n`;
    expect(await rawHttp(url, twice)).to.match(/^HTTP\/1\.1 400 /);
  });

  it('with a NUL, a line break or worse in a header is refused or has a reset, and adds no line to a stream', async () => {
    const head = (lastEventId: string) =>
      `GET /v1/events?topic=${topic} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ${payer.token}\r\nLast-Event-ID: ${lastEventId}\r\n\r\n`;
    for (const text of ['1\0', '1\rid: 5', '1\nid: 5', '\u007f']) {
      expect(await rawHttp(stage.service.url, head(text), 'caught-up'), JSON.stringify(text)).to.match(
        /^HTTP\/1\.1 (400|200 OK[\s\S]*event: reset)/,
      );
    }
    const two = await rawHttp(stage.service.url, head('1\r\nLast-Event-ID: 2'), 'caught-up');
    expect(two).to.contain('"reason":"invalid"');
  });

  it('but for parameters that nobody knows is served', async () => {
    const client = await stage.connect(
      `/v1/events?_=1&utm_source=x&__proto__=y&constructor=z&=&&topic=${topic}&t=topic&topic=${topic.toUpperCase().replace('STREAM', 'stream')}`,
      payer.token,
    );
    expect((await client.message('session')).data['topics']).to.deep.equal([topic]);
    client.close();
  });

  it('in whatever way adds no line to a stream', async () => {
    const texts = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.stringMatching(/^\d{0,3}(\r\n|\n|\r|%0a|\u2028)(id|event|data|retry): ?\w{0,5}\n\n$/),
    );
    await fc.assert(
      fc.asyncProperty(
        texts,
        fc.constantFrom('lastEventId', 'topic', 'ticket', 'x'),
        async (text, parameter) => {
          const query = new URLSearchParams([
            ['topic', topic],
            [parameter, text],
          ]);
          const client = await stage.connect(`/v1/events?${query}`, payer.token);
          if (client.status === 200) {
            await client.caughtUp();
            const blocks = client.raw
              .split('\n\n')
              .map((block) => block.split('\n').map((line) => line.split(':')[0]));
            expect(blocks[0]).to.deep.equal(['retry', 'event', 'data']);
            expect(blocks.at(-2)).to.deep.equal(['event', 'data', 'id']);
            expect(blocks).to.have.length(3);
          } else {
            expect(client.status).to.equal(400);
          }
          client.close();
        },
      ),
      { numRuns: 60 },
    );
  });
});
