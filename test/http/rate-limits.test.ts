import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { metric } from '../support/metrics.ts';
import type { SseClient } from '../support/sse-client.ts';
import { type Answer, Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

const LIMITS = {
  AUTH_FAILURES_PER_MINUTE: '3',
  CONNECT_RATE_PER_MINUTE: '4',
  SESSION_RATE_PER_MINUTE: '2',
  SNAPSHOT_RATE_PER_MINUTE: '2',
};
const BAD = { Authorization: 'Bearer x.y.z' };
/** Two customers of one IPv6 provider, and two addresses of one customer. */
const [HERE, NEXT_DOOR, ELSEWHERE] = ['2001:db8:1:2300::1', '2001:db8:1:23ff::2', '2001:db8:1:2400::1'];

describe('rate limits', () => {
  let stage: Stage;
  let person: Person;
  let colleague: Person;
  let people = 0;

  before(async () => {
    stage = await Stage.open();
  });
  after(() => stage.close());

  beforeEach(async () => {
    [person, colleague] = [await makePerson(stage.pool, ++people), await makePerson(stage.pool, ++people)];
    await stage.settled();
  });
  afterEach(() => stage.closeClients());

  /** A service whose counts nobody has touched. */
  const limited = (environment: Record<string, string> = {}, options = {}): Promise<Service> =>
    stage.addService({ ...LIMITS, ...environment }, options);

  const bearer = ({ token }: Person) => ({ Authorization: `Bearer ${token}` });

  async function send(service: Service, method: string, path: string, headers = {}): Promise<Answer> {
    const response = await fetch(service.url + path, { method, headers });
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      body: await response.text(),
    };
  }

  async function statuses(count: number, request: () => Promise<Answer>): Promise<number[]> {
    return (await Promise.all(Array.from({ length: count }, request))).map(({ status }) => status).sort();
  }

  function expectLimited({ status, headers, body }: Answer): void {
    expect([status, JSON.parse(body).code]).to.deep.equal([429, 'rate_limited']);
    expect(headers['content-type']).to.match(/^application\/problem\+json/);
    expect(Number(headers['retry-after'])).to.be.within(1, 61);
  }

  function expectTurnedAway(client: SseClient): void {
    expect(client.status).to.equal(200);
    expect(client.messages.map(({ type }) => type)).to.deep.equal(['disconnect']);
    const { reason, retryAfterMs } = client.messages[0]?.data ?? {};
    expect(reason).to.equal('rate_limited');
    expect(client.retries).to.deep.equal([retryAfterMs]);
    expect(retryAfterMs).to.be.within(1, 61_000);
  }

  it('refused credentials: a burst gets 401 up to the limit and 429 beyond, whatever the route', async () => {
    const service = await limited();
    const paths = ['/v1/events', '/v1/snapshot', '/v1/cursor', '/v1/streams/x/events'];
    let n = 0;
    expect(await statuses(12, () => send(service, 'GET', paths[n++ % 4] ?? '', BAD))).to.deep.equal([
      ...[401, 401, 401],
      ...Array.from({ length: 9 }, () => 429),
    ]);
    expectLimited(await send(service, 'POST', '/v1/session', BAD));
    expectLimited(await send(service, 'GET', '/v1/events'));
    const expired = mintToken({ sub: person.id, exp: Math.floor(Date.now() / 1000) - 60 });
    expectLimited(await send(service, 'GET', '/v1/cursor', { Authorization: `Bearer ${expired}` }));
    expect(await metric(service, 'settlewire_rate_limited_total{limit="auth_failures"}')).to.equal(12);
    expect(await metric(service, 'settlewire_rate_limit_entries{limit="auth_failures"}')).to.equal(1);
  });

  it('refused credentials: a valid one from the same address is always let in, and is not counted', async () => {
    const service = await limited({ SNAPSHOT_RATE_PER_MINUTE: '100' });
    for (let i = 0; i < 5; i += 1)
      expect((await send(service, 'GET', '/v1/cursor', bearer(person))).status).to.equal(200);
    await statuses(10, () => send(service, 'GET', '/v1/cursor', BAD));
    expect((await send(service, 'GET', '/v1/cursor', bearer(person))).status).to.equal(200);
    const client = await stage.connect('/v1/events', person.token, {}, service);
    await client.caughtUp();
  });

  it('refused credentials: a page with a native EventSource is told in the stream when to come again', async () => {
    const service = await limited({ AUTH_FAILURES_PER_MINUTE: '1' });
    expect((await stage.connect('/v1/events', undefined, BAD, service)).status).to.equal(401);
    const client = await stage.connect('/v1/events', undefined, BAD, service);
    await client.untilEnded();
    expectTurnedAway(client);
    expect(await metric(service, 'settlewire_refusals_total{reason="rate_limited"}')).to.equal(1);
  });

  it('refused credentials: X-Forwarded-For means nothing unless TRUST_PROXY says so', async () => {
    const service = await limited();
    let n = 0;
    const forged = () =>
      send(service, 'GET', '/v1/cursor', { ...BAD, 'X-Forwarded-For': `198.51.100.${n++}` });
    expect(await statuses(5, forged)).to.deep.equal([401, 401, 401, 429, 429]);
  });

  it('refused credentials: behind a proxy the address is the one that the last proxy saw; of IPv6 its /56', async () => {
    const service = await limited({ TRUST_PROXY: '1', AUTH_FAILURES_PER_MINUTE: '1' });
    const from = async (forwarded: string) =>
      (await send(service, 'GET', '/v1/cursor', { ...BAD, 'X-Forwarded-For': forwarded })).status;
    expect(await from('198.51.100.1')).to.equal(401);
    expect(await from('198.51.100.1')).to.equal(429);
    expect(await from('203.0.113.9, 198.51.100.1'), 'what a client claims').to.equal(429);
    expect(await from('198.51.100.2'), 'a neighbour').to.equal(401);
    expect(await from('::ffff:198.51.100.2'), 'the neighbour on a dual-stack socket').to.equal(429);
    expect(await from(HERE)).to.equal(401);
    expect(await from(NEXT_DOOR), 'the same /56').to.equal(429);
    expect(await from(ELSEWHERE), 'another /56').to.equal(401);
  });

  it('refused credentials: an attacker of many addresses takes a bounded number of entries', async () => {
    const service = await limited({ TRUST_PROXY: '1', RATE_LIMIT_ENTRIES: '10' });
    for (let n = 0; n < 30; n += 1)
      await send(service, 'GET', '/v1/cursor', { ...BAD, 'X-Forwarded-For': `2001:db8:${n}::1` });
    expect(await metric(service, 'settlewire_rate_limit_entries{limit="auth_failures"}')).to.equal(10);
    expect(await metric(service, 'settlewire_rate_limit_evictions{limit="auth_failures"}')).to.equal(20);
  });

  it('connects: a burst of one actor is let in up to the limit; others behind the address are not touched', async () => {
    const service = await limited();
    const clients = await Promise.all(
      Array.from({ length: 10 }, () => stage.connect('/v1/events', person.token, {}, service)),
    );
    await waitFor(() => clients.every(({ messages }) => messages.length > 0), { what: 'first messages' });
    const away = clients.filter(({ messages }) => messages[0]?.type === 'disconnect');
    expect(away).to.have.length(6);
    for (const client of away) expectTurnedAway(client);
    expectLimited(await send(service, 'GET', '/v1/events', bearer(person)));
    expectLimited(await send(service, 'GET', `/v1/escrows/${person.id}/events`, bearer(person)));
    await (await stage.connect('/v1/events', colleague.token, {}, service)).caughtUp();
    expect(await metric(service, 'settlewire_rate_limited_total{limit="connects"}')).to.equal(8);
  });

  it('connects: guessing ids is counted, in whatever case the actor writes their own', async () => {
    const service = await limited();
    const loud = mintToken({ sub: person.id.toUpperCase() });
    let n = 0;
    const guess = () =>
      send(service, 'GET', `/v1/events?topic=escrow:00000000-0000-4000-8000-00000000000${n}`, {
        Authorization: `Bearer ${n++ % 2 === 0 ? person.token : loud}`,
      });
    expect(await statuses(6, guess)).to.deep.equal([403, 403, 403, 403, 429, 429]);
  });

  it('connects: who is told that the service is draining is not counted, so that a deploy is no attack', async () => {
    const service = await limited(
      { DRAIN_SECONDS: '2', CONNECT_RATE_PER_MINUTE: '1' },
      { random: () => 0.99 },
    );
    const client = await (await stage.connect('/v1/events', person.token, {}, service)).caughtUp();
    const stopped = service.stop();
    await waitFor(() => service.condition === 'draining', { what: 'the service to drain' });
    const answers = await statuses(5, () => send(service, 'GET', '/v1/events', bearer(person)));
    expect(answers).to.deep.equal([503, 503, 503, 503, 503]);
    client.close();
    await stopped;
  });

  it('sessions and snapshots: 200 up to the limit, 429 beyond, for each actor alone', async () => {
    const service = await limited();
    for (const [method, path, limit] of [
      ['POST', '/v1/session', 'sessions'],
      ['GET', '/v1/snapshot', 'snapshots'],
    ] as const) {
      const ask = (who: Person) => () => send(service, method, path, bearer(who));
      expect(await statuses(5, ask(person)), path).to.deep.equal([200, 200, 429, 429, 429]);
      expectLimited(await ask(person)());
      expect((await ask(colleague)()).status, path).to.equal(200);
      expect(await metric(service, `settlewire_rate_limited_total{limit="${limit}"}`)).to.equal(4);
    }
  });
});
