import { expect } from 'chai';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { makeEscrow, makePerson, type Person } from '../support/world.ts';

describe('a ticket', () => {
  let stage: Stage;
  let me: Person;
  let other: Person;
  let mine: string;
  let theirs: string;
  let shiftMs = 0;

  before(async () => {
    stage = await Stage.open({}, { now: () => Date.now() + shiftMs });
    me = await makePerson(stage.pool, 1);
    other = await makePerson(stage.pool, 2);
    mine = `escrow:${await makeEscrow(stage.pool, me)}`;
    theirs = `escrow:${await makeEscrow(stage.pool, other)}`;
    await stage.settled();
  });
  after(() => stage.close());
  beforeEach(() => {
    shiftMs = 0;
  });
  afterEach(() => stage.closeClients());

  interface Posted {
    readonly status: number;
    readonly body: Record<string, string>;
    readonly headers: Headers;
  }

  async function post(
    body: string | undefined,
    { token = me.token, ...headers }: Record<string, string> = {},
  ): Promise<Posted> {
    const response = await fetch(`${stage.service.url}/v1/tickets`, {
      method: 'POST',
      headers: { ...(token === '' ? {} : { Authorization: `Bearer ${token}` }), ...headers },
      ...(body === undefined ? {} : { body }),
    });
    return {
      status: response.status,
      body: (await response.json()) as Record<string, string>,
      headers: response.headers,
    };
  }

  const ticketFor = async (topics?: string[], token?: string): Promise<string> => {
    const { body } = await post(
      topics === undefined ? undefined : JSON.stringify({ topics }),
      token === undefined ? {} : { token },
    );
    return body['ticket'] ?? '';
  };

  const open = (path: string, ticket: string): Promise<SseClient> =>
    stage.connect(`${path}${path.includes('?') ? '&' : '?'}ticket=${ticket}`);

  async function outcome(client: SseClient): Promise<string> {
    if (client.status === 200) return 'ok';
    await client.untilEnded();
    return `${client.status} ${JSON.parse(client.raw).code}`;
  }

  it('is what a bearer token becomes, for TICKET_SECONDS and no longer than the token', async () => {
    const { status, body, headers } = await post(undefined);
    expect(status).to.equal(200);
    expect(headers.get('cache-control')).to.equal('no-store');
    expect(Object.keys(body)).to.deep.equal(['ticket', 'expiresAt']);
    expect(Date.parse(body['expiresAt'] ?? '') - Date.now()).to.be.within(55_000, 60_000);
    const exp = Math.floor(Date.now() / 1000) + 20;
    const short = await post(undefined, { token: mintToken({ sub: me.id, exp }) });
    expect(Date.parse(short.body['expiresAt'] ?? '')).to.equal(exp * 1000);
  });

  it('opens streams of whatever its bearer may see, as often as wanted', async () => {
    const ticket = await ticketFor();
    for (const path of ['/v1/events', `/v1/events?topic=${mine}`, `/v1/escrows/${mine.slice(7)}/events`]) {
      const client = await (await open(path, ticket)).caughtUp();
      await stage.publish(mine);
      await client.received(1);
    }
    expect(await outcome(await open(`/v1/events?topic=${theirs}`, ticket))).to.equal('403 forbidden');
  });

  it('of topics opens streams of these, of some of these, and of no others', async () => {
    const own = `user:${me.id}`;
    const ticket = await ticketFor([mine.toUpperCase().replace('ESCROW', 'escrow'), own, own]);
    const client = await (await open('/v1/events', ticket)).caughtUp();
    expect((await client.message('session')).data['topics'], 'named by the ticket').to.deep.equal([
      mine,
      own,
    ]);
    expect(await outcome(await open(`/v1/events?topic=${mine}`, ticket))).to.equal('ok');
    expect(await outcome(await open(`/v1/escrows/${mine.slice(7)}/events`, ticket))).to.equal('ok');
    for (const query of [`topic=wallet:${me.wallet}`, `topic=${mine}&topic=wallet:${me.wallet}`])
      expect(await outcome(await open(`/v1/events?${query}`, ticket)), query).to.equal('403 forbidden');
  });

  it('gives a stream that is gone on with by resume token, its topics named', async () => {
    const client = await (await open('/v1/events', await ticketFor([mine]))).caughtUp();
    const resume = String((await client.message('session')).data['resumeToken']);
    const back = await stage.connect(`/v1/events?topic=${mine}&resume=${resume}`);
    expect(await outcome(back)).to.equal('ok');
    expect(await outcome(await stage.connect(`/v1/events?resume=${resume}`)), 'a feed').to.equal(
      '403 forbidden',
    );
    const both = `/v1/events?topic=${mine}&resume=${resume}`;
    expect(await outcome(await open(both, await ticketFor([mine])))).to.equal('401 unauthenticated');
  });

  it('ends, but what it opened goes on until the token that it came from ends', async () => {
    const exp = Math.floor(Date.now() / 1000) + 120;
    const ticket = await ticketFor(undefined, mintToken({ sub: me.id, exp }));
    const client = await (await open('/v1/events', ticket)).caughtUp();
    expect((await client.message('session')).data['expiresAt']).to.equal(new Date(exp * 1000).toISOString());
    shiftMs = 61_000;
    expect(await outcome(await open('/v1/events', ticket))).to.equal('401 token_expired');
    expect(client.ended).to.equal(false);
  });

  it('is for streams alone', async () => {
    const ticket = await ticketFor();
    for (const [method, path] of [
      ['GET', '/v1/snapshot'],
      ['GET', '/v1/cursor'],
      ['POST', '/v1/session'],
      ['POST', '/v1/tickets'],
    ] as const)
      expect((await stage.send(method, `${path}?ticket=${ticket}`)).status, path).to.equal(401);
  });

  it('counts for less than a bearer token and for more than a cookie; an empty one is none', async () => {
    const ticket = await ticketFor();
    const url = (value: string) => `/v1/events?ticket=${value}`;
    expect(await outcome(await stage.connect(url(ticket), 'x.y.z'))).to.equal('401 unauthenticated');
    expect(await outcome(await stage.connect(url('nonsense'), me.token))).to.equal('ok');
    const Cookie = 'settlewire_session=nonsense';
    expect(await outcome(await stage.connect(url(ticket), undefined, { Cookie }))).to.equal('ok');
    expect(await outcome(await stage.connect(url('')))).to.equal('401 unauthenticated');
    expect(await outcome(await stage.connect(url(`${ticket}&ticket=${ticket}`)))).to.equal(
      '401 unauthenticated',
    );
    expect(await outcome(await stage.connect(url(''), me.token))).to.equal('ok');
  });

  it('is given to bearer tokens only', async () => {
    const session = await stage.send('POST', '/v1/session', { Authorization: `Bearer ${me.token}` });
    const Cookie = String(session.headers['set-cookie']).split(';')[0] ?? '';
    expect((await post(undefined, { token: '', Cookie })).status).to.equal(401);
    expect((await post(undefined, { token: '' })).status).to.equal(401);
    expect((await post(undefined, { token: await ticketFor() })).status).to.equal(401);
  });

  it('is refused for what one may not see', async () => {
    for (const topic of [theirs, 'escrow:00000000-0000-4000-8000-000000000000', 'escrow:42'])
      expect(await post(JSON.stringify({ topics: [mine, topic] }))).to.deep.include({ status: 403 });
  });

  const many = (count: number) => Array.from({ length: count }, (_, n) => `escrow:${n}`);
  const bodies: readonly (readonly [string, string, string, number, string])[] = [
    ['no object', '[]', 'application/json', 400, 'bad_request'],
    ['no JSON', '{"topics":', 'application/json', 400, 'bad_request'],
    ['null', 'null', 'application/json', 400, 'bad_request'],
    ['no array', '{"topics":"escrow:1"}', 'application/json', 400, 'bad_request'],
    ['null for topics', '{"topics":null}', 'application/json', 400, 'bad_request'],
    ['no topics in the array', '{"topics":[]}', 'application/json', 400, 'bad_request'],
    ['a number for a topic', '{"topics":[1]}', 'application/json', 400, 'bad_request'],
    ['a key that is none', '{"topic":["escrow:1"]}', 'application/json', 400, 'bad_request'],
    ['a prototype', '{"__proto__":{"topics":["escrow:1"]}}', 'application/json', 400, 'bad_request'],
    ['a type that is none', '{"topics":[]}', 'text/plain', 400, 'bad_request'],
    ['a form', 'topics=escrow:1', 'application/x-www-form-urlencoded', 400, 'bad_request'],
    ['a topic that is none', '{"topics":["escrow"]}', 'application/json', 400, 'invalid_topic'],
    ['a line break in a topic', '{"topics":["escrow:1\\n2"]}', 'application/json', 400, 'invalid_topic'],
    ['a NUL in a topic', '{"topics":["escrow:1\\u0000"]}', 'application/json', 400, 'invalid_topic'],
    ['too many topics', JSON.stringify({ topics: many(101) }), 'application/json', 400, 'too_many_topics'],
    [
      'too much',
      JSON.stringify({ topics: ['x'.repeat(16_384)] }),
      'application/json',
      413,
      'payload_too_large',
    ],
    ['an unknown charset', '{}', 'application/json; charset=klingon', 400, 'bad_request'],
  ];
  for (const [what, body, type, status, code] of bodies) {
    it(`asked for with ${what}: ${status} ${code}`, async () => {
      const posted = await post(body, { 'Content-Type': type });
      expect([posted.status, posted.body['code']]).to.deep.equal([status, code]);
      expect(posted.headers.get('content-type')).to.match(/^application\/problem\+json/);
    });
  }

  it('asked for with a compressed body is refused', async () => {
    const posted = await post('{}', { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' });
    expect([posted.status, posted.body['code']]).to.deep.equal([400, 'bad_request']);
  });

  it('asked for as curl -d does, as a form, is for the topics that the body names', async () => {
    const { body } = await post(JSON.stringify({ topics: [mine] }), {
      'Content-Type': 'application/x-www-form-urlencoded',
    });
    const client = await open('/v1/events', body['ticket'] ?? '');
    expect((await client.message('session')).data['topics']).to.deep.equal([mine]);
  });

  it('asked for with an empty object is for everything', async () => {
    expect((await post('{}', { 'Content-Type': 'application/json' })).status).to.equal(200);
  });

  it('of as many topics as a stream may have fits into a URL; of more characters than that it is refused', async () => {
    const admin = await makePerson(stage.pool, 3, 'ADMIN');
    await stage.settled();
    const uuid = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
    const full = Array.from({ length: 100 }, (_, n) => `stream:${uuid(n)}`);
    const ticket = await ticketFor(full, admin.token);
    expect(ticket.length).to.be.below(7000);
    const client = await (await open('/v1/events', ticket)).caughtUp();
    expect((await client.message('session')).data['topics']).to.deep.equal(full);
    const long = Array.from({ length: 100 }, (_, n) => `wallet:${'w'.repeat(100)}${n}`);
    const refused = await post(JSON.stringify({ topics: long }), { token: admin.token });
    expect([refused.status, refused.body['code']]).to.deep.equal([400, 'too_many_topics']);
  });

  it('is known by its method alone', async () => {
    const answer = await stage.send('GET', '/v1/tickets');
    expect([answer.status, answer.headers.allow]).to.deep.equal([405, 'POST']);
  });
});
