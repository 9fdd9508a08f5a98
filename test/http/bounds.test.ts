import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { metric } from '../support/metrics.ts';
import { rawHttp } from '../support/raw-http.ts';
import { Responses } from '../support/responses.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

const BOUNDS = {
  HEADERS_SECONDS: '0.3',
  REQUEST_SECONDS: '0.6',
  KEEP_ALIVE_SECONDS: '0.3',
  MAX_HEADER_BYTES: '8192',
  MAX_BODY_BYTES: '1024',
  MAX_REQUESTS_PER_CONNECTION: '5',
  HEARTBEAT_SECONDS: '0.1',
};
const HEALTH = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';

describe('a client that takes its time, or sends too much', () => {
  let stage: Stage;
  let person: Person;
  let stream: string;
  const sockets: Socket[] = [];

  before(async () => {
    stage = await Stage.open(BOUNDS);
    person = await makePerson(stage.pool, 1);
    await stage.settled();
    stream = `GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${person.token}\r\n`;
  });
  after(() => stage.close());

  // Whatever was done before, the service serves the next one.
  afterEach(async () => {
    for (const socket of sockets.splice(0)) socket.destroy();
    expect((await stage.send('GET', '/healthz')).status).to.equal(200);
    await waitFor(() => stage.service.hub.subscribers.size === 0, { what: 'an empty hub' });
  });

  /** A connection, and what has come back over it so far. */
  async function dial({ url }: Service = stage.service): Promise<{ socket: Socket; got: () => string }> {
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    sockets.push(socket);
    let received = '';
    socket.setEncoding('latin1').on('data', (text: string) => {
      received += text;
    });
    socket.on('error', () => {});
    await once(socket, 'connect');
    return { socket, got: () => received };
  }

  const problem = (answer: string): unknown => JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4)).code;

  for (const [what, text, status, code] of [
    ['headers that do not end', 'GET /healthz HTTP/1.1\r\nHost: x\r\nX: y', 408, 'request_timeout'],
    ['half a request line', 'GET /hea', 408, 'request_timeout'],
    [
      'headers beyond 8 KiB',
      `GET / HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(8200)}\r\n\r\n`,
      431,
      'headers_too_large',
    ],
    ['a URL beyond 8 KiB', `GET /?${'x'.repeat(8200)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431, 'headers_too_large'],
    [
      '10,000 topics',
      `GET /v1/events?${'topic=x:1&'.repeat(10_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
      431,
      'headers_too_large',
    ],
    ['a version of its own', 'GET / HTTP/9.9\r\nHost: x\r\n\r\n', 400, 'bad_request'],
    ['no HTTP', 'HELO there\r\n\r\n', 400, 'bad_request'],
    [
      'a target with a port that is none',
      'GET http://x:port/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      400,
      'bad_request',
    ],
    [
      'a target of another scheme',
      'GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      400,
      'bad_request',
    ],
    [
      'a target that is none',
      'GET healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
      400,
      'bad_request',
    ],
    ['TLS', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', 400, 'bad_request'],
    ['a header line without a name', 'GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n', 400, 'bad_request'],
    ['a folded header', 'GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n z\r\n\r\n', 400, 'bad_request'],
    [
      'a header line that ends with LF alone and hides another',
      'GET / HTTP/1.1\r\nHost: x\r\nX: y\rZ: z\r\n\r\n',
      400,
      'bad_request',
    ],
    [
      'length and chunks at once',
      'POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      400,
      'bad_request',
    ],
    [
      'two lengths',
      'POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
      400,
      'bad_request',
    ],
    [
      'a negative length',
      'POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n',
      400,
      'bad_request',
    ],
    [
      'a length beyond the limit',
      'POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 1025\r\n\r\n',
      413,
      'payload_too_large',
    ],
    [
      'a length beyond the limit of a GET',
      'GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n',
      413,
      'payload_too_large',
    ],
  ] as const) {
    it(`${what}: ${status} ${code}, and the connection ends`, async () => {
      const answer = await rawHttp(stage.service.url, text);
      expect(answer).to.match(new RegExp(`^HTTP/1\\.1 ${status} `));
      expect(answer).to.match(/\r\ncontent-type: application\/problem\+json; charset=utf-8\r\n/i);
      expect(problem(answer)).to.equal(code);
    });
  }

  it('headers that come a byte at a time: 408 all the same', async () => {
    const { socket, got } = await dial();
    const trickle = setInterval(() => socket.write('x'), 20);
    socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\nX: ');
    await once(socket, 'close');
    clearInterval(trickle);
    expect(problem(got())).to.equal('request_timeout');
  });

  it('a body that does not come, or never ends: its connection ends with the answer or when the time is up', async () => {
    for (const [head, body] of [
      ['POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n', 'x'],
      ['POST /v1/session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n', '1\r\nx\r\n'],
      ['GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n', '1\r\nx\r\n'],
    ] as const) {
      const { socket, got } = await dial();
      socket.write(head);
      const trickle = setInterval(() => socket.write(body), 20);
      await once(socket, 'close');
      clearInterval(trickle);
      expect(got(), head).to.match(/^HTTP\/1\.1 (401|200) /);
    }
  });

  it('a body in chunks that add up to too much: 413 payload_too_large', async () => {
    const head = `POST /v1/tickets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${person.token}\r\nTransfer-Encoding: chunked\r\n\r\n`;
    const chunk = `100\r\n${' '.repeat(256)}\r\n`;
    const answer = await rawHttp(stage.service.url, `${head}${chunk.repeat(5)}0\r\n\r\n`);
    expect(answer).to.match(/^HTTP\/1\.1 413 /);
    expect(problem(answer)).to.equal('payload_too_large');
    expect(await rawHttp(stage.service.url, head + chunk.repeat(5)), 'that do not end').to.equal('');
    expect(await rawHttp(stage.service.url, `${head}2\r\n{}\r\n0\r\n\r\n`)).to.match(/^HTTP\/1\.1 200 /);
  });

  it('a stream asked for with a body: it is dropped, and that the client has gone is noticed', async () => {
    const { hub } = stage.service;
    const { socket, got } = await dial();
    socket.write(`${stream}Content-Length: 1024\r\n\r\n${'x'.repeat(1024)}`);
    await waitFor(() => got().includes('caught-up'), { what: 'the stream' });
    expect(hub.subscribers.size).to.equal(1);
    socket.end();
    await waitFor(() => hub.subscribers.size === 0, { what: 'it to be noticed' });
  });

  it('a stream asked for with a body that never comes ends when its time is up', async () => {
    const { socket, got } = await dial();
    socket.write(`${stream}Content-Length: 1024\r\n\r\n`);
    await once(socket, 'close');
    expect(got()).to.match(/^HTTP\/1\.1 200 OK\r\n/);
    expect(got().slice(got().indexOf('event: '))).not.to.contain('HTTP/1.1');
  });

  it('nonsense after a stream adds nothing to it: the connection is cut', async () => {
    for (const nonsense of [
      'nonsense\r\n\r\n',
      `GET / HTTP/1.1\r\nX: ${'x'.repeat(9000)}\r\n\r\n`,
      '\0\0\0\0',
    ]) {
      const { socket, got } = await dial();
      socket.write(`${stream}\r\n`);
      await waitFor(() => got().includes('caught-up'), { what: 'the stream' });
      socket.write(nonsense);
      await once(socket, 'close');
      expect(got().match(/HTTP\/1\.1/g), nonsense.slice(0, 20)).to.have.length(1);
      expect(got()).not.to.contain('problem+json');
    }
  });

  it('a chunk extension without end: the connection is cut', async () => {
    const { socket, got } = await dial();
    socket.write(
      `POST /v1/session HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;${'x'.repeat(20_000)}`,
    );
    await once(socket, 'close');
    expect(got()).not.to.contain(' 200 ');
  });

  it('a connection that nobody uses is closed', async () => {
    const { socket, got } = await dial();
    socket.write(HEALTH);
    await once(socket, 'close');
    expect(got()).to.match(/^HTTP\/1\.1 200 OK\r\n/);
  });

  it('a connection that is used for ever: the last answer says that it was the last', async () => {
    const answers = await rawHttp(stage.service.url, HEALTH.repeat(5));
    expect(answers.match(/HTTP\/1\.1 200 OK/g)).to.have.length(5);
    expect(answers.match(/^connection: close/gim)).to.have.length(1);
  });

  it('an expectation that nobody knows is none', async () => {
    const answer = await rawHttp(
      stage.service.url,
      HEALTH.replace('\r\n\r\n', '\r\nConnection: close\r\nExpect: miracles\r\n\r\n'),
    );
    expect(answer).to.match(/^HTTP\/1\.1 200 OK\r\n/);
  });

  it('a target with scheme and host is served like one without', async () => {
    const target = HEALTH.replace('/healthz', 'http://elsewhere:8080/readyz?x').replace(
      '\r\n\r\n',
      '\r\nConnection: close\r\n\r\n',
    );
    expect(await rawHttp(stage.service.url, target)).to.match(/\r\n\r\n\{"status":"ready"\}$/);
  });

  it('an upgrade or a tunnel is not to be had', async () => {
    const upgrade = `GET /v1/events HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n`;
    expect(await rawHttp(stage.service.url, upgrade)).to.match(/^HTTP\/1\.1 401 /);
    expect(await rawHttp(stage.service.url, 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n')).to.equal('');
    expect(
      await rawHttp(stage.service.url, 'OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n'),
    ).to.match(/^HTTP\/1\.1 404 /);
  });

  it('a long answer that nobody reads is cut off', async () => {
    const slow = await stage.addService({ ...BOUNDS, STALL_SECONDS: '0.3' });
    await stage.pool.query(
      `insert into streams (payer, recipient, status, rate_per_second, total_amount)
       select $1, 'somebody', 'active', 1, 1 from generate_series(1, 9000)`,
      [person.wallet],
    );
    await stage.settled(slow);
    const responses = new Responses();
    const { socket } = await dial(slow);
    socket.pause();
    for (let i = 0; i < 4; i += 1) {
      socket.write(`GET /v1/snapshot HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${person.token}\r\n\r\n`);
    }
    await waitFor(() => responses.waiting > 0, { what: 'an answer that waits', timeoutMs: 20_000 });
    await waitFor(async () => (await metric(slow, 'settlewire_sockets')) === 0, {
      what: 'it to be cut off',
      timeoutMs: 10_000,
    });
    responses.stop();
  });

  it('connections that say nothing push out one another, not those that have something to say', async () => {
    const narrow = await stage.addService({ MAX_OTHER_CONNECTIONS: '5' });
    const client = await (await stage.connect('/v1/events', person.token, {}, narrow)).caughtUp();
    const silent: Awaited<ReturnType<typeof dial>>[] = [];
    for (let i = 0; i < 20; i += 1) silent.push(await dial(narrow));
    const isCut = ({ socket }: { socket: Socket }): boolean => socket.destroyed;
    await waitFor(() => silent.filter(isCut).length === 15, { what: 'fifteen to be cut' });
    expect(silent.slice(-5).some(isCut), 'the newest').to.equal(false);
    expect((await fetch(`${narrow.url}/healthz`)).status).to.equal(200);
    expect(await metric(narrow, 'settlewire_socket_evictions')).to.be.at.least(16);
    expect(await metric(narrow, 'settlewire_sockets')).to.be.within(5, 6);
    expect(client.ended, 'the stream').to.equal(false);
    client.close();
  });

  it('a new connection is cut if all others are being answered', async () => {
    const narrow = await stage.addService({ MAX_OTHER_CONNECTIONS: '1' });
    const blocker = await stage.pool.connect();
    await blocker.query('begin; lock users in access exclusive mode');
    const { socket, got } = await dial(narrow);
    socket.write(`${stream}Accept: text/event-stream\r\n\r\n`);
    await waitFor(
      async () =>
        (
          await stage.pool.query(
            `select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())`,
          )
        ).rowCount,
      {
        what: 'the look-up to wait',
      },
    );
    const late = await dial(narrow);
    await waitFor(() => late.socket.destroyed, { what: 'the new one to be cut' });
    expect(socket.destroyed).to.equal(false);
    await blocker.query('rollback');
    blocker.release();
    await waitFor(() => got().includes('caught-up'), { what: 'the stream' });
  });

  it('the thousand-and-first parameter counts like the first', async () => {
    const wide = await stage.addService({ MAX_HEADER_BYTES: '65536' });
    const ask = (tail: string) =>
      stage.connect(`/v1/events?${'x=1&'.repeat(1200)}${tail}`, person.token, {}, wide);
    const bad = await ask('topic=nonsense');
    expect(bad.status).to.equal(400);
    await bad.untilEnded();
    const client = await ask(`topic=user:${person.id}`);
    expect((await client.message('session')).data['topics']).to.deep.equal([`user:${person.id}`]);
    client.close();
  });
});
