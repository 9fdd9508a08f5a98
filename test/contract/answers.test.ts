import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { expect } from 'chai';
import { asyncApi } from '../../src/contract/asyncapi.ts';
import { openApi } from '../../src/contract/openapi.ts';
import { type Answer, Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makeEscrow, makePerson, makeStream, type Person } from '../support/world.ts';

type Node = { readonly [key: string]: Node };

describe("the service's answers", () => {
  const document = structuredClone({ ...openApi('1.2.3') }) as unknown as Node;
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  let stage: Stage;
  let person: Person;
  let stream: string;
  let escrow: string;

  before(async () => {
    addFormats.default(ajv);
    ajv.addSchema({ $id: 'openapi', ...document });
    stage = await Stage.open({ MAX_CONNECTIONS_PER_ACTOR: '1', MAX_TOPICS_PER_CONNECTION: '2' });
    person = await makePerson(stage.pool, 1);
    const other = await makePerson(stage.pool, 2);
    stream = await makeStream(stage.pool, person, other);
    escrow = await makeEscrow(stage.pool, person);
    await stage.pool.query(
      `insert into settlements (stream_id, status, amount, asset, finished_at) values ($1, 'succeeded', 1, 'USDC', now())`,
      [stream],
    );
    await stage.pool.query(
      `insert into escrow_parties (escrow_id, user_id, role) values ($1, $2, 'seller')`,
      [escrow, other.id],
    );
    await stage.pool.query(
      `insert into escrow_conditions (escrow_id, amount, is_released, released_at) values ($1, 2, true, now())`,
      [escrow],
    );
    await stage.pool.query('insert into disputes (escrow_id, filed_by_user_id) values ($1, $2)', [
      escrow,
      person.id,
    ]);
    await stage.pool.query(`insert into notifications (user_id, event_type) values ($1, 'a.b')`, [person.id]);
    await stage.settled();
  });
  after(() => stage.close());

  /** What the document says of an answer of this status. */
  function described(path: string, method: string, status: number): Node {
    const answer = document['paths']?.[path]?.[method.toLowerCase()]?.['responses']?.[String(status)];
    expect(answer, `${method} ${path} is documented with ${status}`).not.to.equal(undefined);
    return answer as Node;
  }

  function check(path: string, method: string, { status, headers, body }: Answer): void {
    const answer = described(path, method, status);
    for (const name of Object.keys(answer['headers'] ?? {}))
      expect(headers, `${method} ${path} ${status}`).to.have.property(name.toLowerCase());
    const [type] = Object.keys(answer['content'] ?? {});
    if (type === undefined) {
      expect(body).to.equal('');
      return;
    }
    expect(String(headers['content-type'])).to.match(new RegExp(`^${type.replaceAll('+', '\\+')}(;|$)`));
    if (!type.endsWith('json')) return;
    const pointer = [
      'paths',
      path,
      method.toLowerCase(),
      'responses',
      String(status),
      'content',
      type,
      'schema',
    ]
      .map((it) => it.replaceAll('~', '~0').replaceAll('/', '~1'))
      .map(encodeURIComponent);
    const validate = ajv.compile({ $ref: `openapi#/${pointer.join('/')}` });
    validate(JSON.parse(body));
    expect(validate.errors ?? [], `${method} ${path}: ${body}`).to.deep.equal([]);
  }

  const bearer = (): Record<string, string> => ({ Authorization: `Bearer ${person.token}` });
  interface Case {
    readonly path: string;
    readonly status: number;
    readonly query?: () => string;
    readonly headers?: Record<string, string>;
    readonly method?: string;
  }
  const cases: readonly Case[] = [
    { path: '/v1/snapshot', status: 200 },
    { path: '/v1/snapshot', status: 200, query: () => `?topic=stream:${stream}&topic=escrow:${escrow}` },
    { path: '/v1/snapshot', status: 403, query: () => `?topic=user:${stream}` },
    { path: '/v1/snapshot', status: 400, query: () => '?topic=nonsense' },
    { path: '/v1/snapshot', status: 400, query: () => '?topic=user:1&topic=user:2&topic=user:3' },
    { path: '/v1/snapshot', status: 401, headers: { Authorization: 'Bearer a.b.c' } },
    { path: '/v1/cursor', status: 200 },
    { path: '/v1/cursor', status: 401, headers: { Authorization: 'x' } },
    { path: '/v1/session', status: 200, method: 'POST' },
    { path: '/v1/session', status: 204, method: 'DELETE' },
    { path: '/v1/session', status: 401, method: 'POST', headers: { Authorization: ' ' } },
    { path: '/v1/tickets', status: 200, method: 'POST' },
    { path: '/v1/tickets', status: 401, method: 'POST', headers: { Authorization: ' ' } },
    { path: '/v1/events', status: 401, query: () => '?ticket=x', headers: { Authorization: ' ' } },
    { path: '/v1/events', status: 400, query: () => '?lastEventId=x' },
    { path: '/v1/events', status: 406, headers: { Accept: 'text/html' } },
    { path: '/v1/streams/{id}/events', status: 403 },
    { path: '/v1/escrows/{id}/events', status: 403 },
    { path: '/healthz', status: 200 },
    { path: '/readyz', status: 200 },
    { path: '/openapi.json', status: 200 },
    { path: '/asyncapi.json', status: 200 },
  ];
  for (const [index, { path, status, query = () => '', headers = {}, method = 'GET' }] of cases.entries()) {
    it(`case ${index}: ${method} ${path} (${status}) is what the document says`, async () => {
      const url = path.replace('{id}', '7a4f0c52-1d6e-4b83-9c0a-5e2f8d1b6a09') + query();
      const answer = await stage.send(method, url, { ...bearer(), ...headers });
      expect(answer.status).to.equal(status);
      check(path, method, answer);
    });
  }

  it('a stream, and one too many, are what the document says', async () => {
    const paths = ['/v1/events', '/v1/streams/{id}/events', '/v1/escrows/{id}/events'];
    for (const path of paths) {
      const url = path.replace('{id}', path.includes('streams') ? stream : escrow);
      const client = await stage.connect(url, person.token);
      check(path, 'GET', { status: client.status, headers: client.response?.headers ?? {}, body: '' });
      const refused = await stage.send('GET', url, bearer());
      expect(refused.status).to.equal(429);
      check(path, 'GET', refused);
      client.close();
      await waitFor(() => stage.service.hub.subscribers.size === 0, { what: 'the end of the stream' });
    }
  });

  it('what is in a stream is what the document says', async () => {
    const messages = structuredClone({ ...asyncApi('1.2.3') }) as unknown as Node;
    ajv.addSchema({ $id: 'asyncapi', ...messages });
    const first = await stage.connect('/v1/events', person.token, { 'Last-Event-ID': 'x' });
    await first.message('caught-up');
    const second = await stage.connect('/v1/events', person.token);
    await second.message('disconnect');
    await stage.pool.query(`update streams set status = 'paused' where id = $1`, [stream]);
    await stage.pool.query(
      `select outbox_publish('stream:' || $1, 'stream:updated', json_build_object('x', repeat('y', 20000)))`,
      [stream],
    );
    await waitFor(() => first.events.length === 2, { what: 'two events' });
    const seen = [...first.messages, ...second.messages];
    expect(new Set(seen.map(({ type }) => type))).to.include.all.keys(
      'session',
      'reset',
      'caught-up',
      'disconnect',
      'stream:updated',
    );
    const { messages: described = {} } = messages['components'] ?? {};
    for (const { type, data } of seen) {
      const [name] = Object.entries(described).find(([, it]) => String(it['name']) === type) ?? [];
      const validate = ajv.compile({ $ref: `asyncapi#/components/messages/${name}/payload` });
      validate(data);
      expect(validate.errors ?? [], `${type}: ${JSON.stringify(data)}`).to.deep.equal([]);
    }
    first.close();
    second.close();
  });
});
