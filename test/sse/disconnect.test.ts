import { expect } from 'chai';
import { Blockade } from '../support/blockade.ts';
import { takeAway } from '../support/database-away.ts';
import { metric } from '../support/metrics.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';

describe('a stream that the server ends', () => {
  let stage: Stage;
  let payer: Person;
  let path: string;
  let topic: string;
  let stream: string;
  let shiftMs = 0;
  let people = 0;

  before(async () => {
    stage = await Stage.open({}, { now: () => Date.now() + shiftMs, random: () => 0 });
  });

  after(() => stage.close());

  beforeEach(async () => {
    shiftMs = 0;
    people += 1;
    payer = await makePerson(stage.pool, people);
    stream = await makeStream(stage.pool, payer, payer);
    topic = `stream:${stream}`;
    path = `/v1/streams/${stream}/events`;
    await stage.settled();
  });

  afterEach(() => stage.closeClients());

  /** The last block is a disconnect, with a retry in the same block, and then the response ends. */
  async function expectDisconnect(client: SseClient, reason: string, service = stage.service): Promise<void> {
    await client.untilEnded();
    const last = client.messages.at(-1);
    expect(last).to.deep.equal({ type: 'disconnect', data: { reason, retryAfterMs: 25 }, id: undefined });
    expect(client.raw).to.match(
      /(^|\n\n|:\n)retry: 25\nevent: disconnect\ndata: \{"reason":"\w+","retryAfterMs":25\}\n\n$/,
    );
    expect(client.response?.complete, 'ended, not cut').to.equal(true);
    await waitFor(() => service.hub.subscribers.size === 0, { what: 'an empty hub' });
    expect(service.hub.topicCount).to.equal(0);
  }

  const disconnects = (reason: string, service = stage.service) =>
    metric(service, `settlewire_disconnects_total{reason="${reason}"}`);

  it('ends when the token does, to the millisecond', async () => {
    const exp = Math.ceil(Date.now() / 1000) + 60;
    shiftMs = exp * 1000 - 250 - Date.now();
    const startedAt = performance.now();
    const client = await stage.connect(path, mintToken({ sub: payer.id, exp }));
    await expectDisconnect(client, 'token_expired');
    expect(performance.now() - startedAt).to.be.within(200, 2000);
    expect(await disconnects('token_expired')).to.equal(1);
    const again = await stage.connect(path, mintToken({ sub: payer.id, exp }));
    expect(again.status).to.equal(401);
  });

  it('ends when it is old, sooner for some than for others', async () => {
    const startedAt = performance.now();
    const environment = { MAX_CONNECTION_AGE_SECONDS: '1' };
    const early = await stage.addService(environment, { random: () => 0 });
    const late = await stage.addService(environment, { random: () => 0.9999 });
    const ends = await Promise.all(
      [early, late].map(async (service) => {
        const client = await stage.connect(path, payer.token, {}, service);
        await client.untilEnded();
        expect(client.messages.at(-1)?.data['reason']).to.equal('max_age');
        expect(await disconnects('max_age', service)).to.equal(1);
        return performance.now() - startedAt;
      }),
    );
    expect(ends[0]).to.be.within(880, 3000);
    expect((ends[1] ?? 0) - (ends[0] ?? 0)).to.be.within(100, 1500);
  });

  it('ends when its only topic is revoked', async () => {
    const client = await (await stage.connect(path, payer.token)).caughtUp();
    await stage.pool.query(`update streams set payer = 'other', recipient = 'other' where id = $1`, [stream]);
    await expectDisconnect(client, 'access_revoked');
    expect(client.events).to.deep.equal([]);
    expect(await disconnects('access_revoked')).to.equal(1);
    expect((await stage.connect(path, payer.token)).status).to.equal(403);
  });

  for (const [change, sql] of [
    ['account is closed', 'update users set is_active = false where id = $1'],
    ['role changes', "update users set role = 'ADMIN' where id = $1"],
    ['wallet changes', "update users set wallet_address = 'another' where id = $1"],
    ['account is deleted', 'delete from users where id = $1'],
  ] as const) {
    it(`ends every session when the ${change}`, async () => {
      const clients = await Promise.all([
        stage.connect(path, payer.token),
        stage.connect('/v1/events', payer.token),
        stage.connect('/v1/events', mintToken({ sub: payer.wallet })),
      ]);
      for (const client of clients) await client.caughtUp();
      const before = await disconnects('session_revoked');
      await stage.pool.query(sql, [payer.id]);
      for (const client of clients) await expectDisconnect(client, 'session_revoked');
      expect(await disconnects('session_revoked')).to.equal(before + 3);
    });
  }

  it('ends everybody when the service drains, and tells those who come now to come later', async () => {
    const service = await stage.addService({ DRAIN_SECONDS: '0.5' }, { random: () => 0.9 });
    const connected = await (await stage.connect(path, payer.token, {}, service)).caughtUp();
    const stopping = service.stop();
    const refused = await stage.connect(path, payer.token, {}, service);
    const plain = await stage.connect(path, payer.token, { Accept: '*/*' }, service);
    expect(connected.ended).to.equal(false);
    await refused.untilEnded();
    expect(refused.status).to.equal(200);
    expect(refused.raw).to.equal(
      'retry: 70\nevent: disconnect\ndata: {"reason":"draining","retryAfterMs":70}\n\n',
    );
    await plain.untilEnded();
    expect(plain.status).to.equal(503);
    expect(plain.response?.headers['retry-after']).to.equal('1');
    expect(JSON.parse(plain.raw)).to.include({ code: 'unavailable', status: 503 });
    expect((await fetch(`${service.url}/readyz`)).status).to.equal(503);
    await connected.untilEnded();
    expect(connected.messages.at(-1)?.data).to.deep.equal({ reason: 'draining', retryAfterMs: 70 });
    expect(connected.response?.complete).to.equal(true);
    await stopping;
    expect(service.hub.subscribers.size).to.equal(0);
  });

  it('turns a client away that was still being looked up when the service began to drain', async () => {
    const service = await stage.addService({}, { random: () => 0 });
    const blockade = await Blockade.of(stage.pool, 'users');
    const connecting = stage.connect(path, payer.token, {}, service);
    await blockade.waiting('with known');
    const stopping = service.stop();
    await blockade.lift();
    await expectDisconnect(await connecting, 'draining', service);
    await stopping;
  });

  it('spreads the end of many over the time it has to drain', async () => {
    const service = await stage.addService({ DRAIN_SECONDS: '0.6' }, { random: () => 0.5 });
    const clients = await Promise.all(
      [1, 2, 3].map(() => stage.connect(path, payer.token, {}, service).then((client) => client.caughtUp())),
    );
    const startedAt = performance.now();
    const ends = clients.map((client) => client.untilEnded().then(() => performance.now() - startedAt));
    await service.stop();
    // In the middle of each third of the time; a busy machine may be late, never early.
    const [first = 0, second = 0, third = 0] = (await Promise.all(ends)).toSorted((a, b) => a - b);
    expect(first).to.be.within(95, 1500);
    expect(second).to.be.within(295, 1500).and.greaterThan(first);
    expect(third).to.be.within(495, 1500).and.greaterThan(second);
    await service.stop();
  });

  it('turns clients away while the database is away, and lets them in when it is back', async () => {
    const { service } = stage;
    const connected = await (await stage.connect(path, payer.token)).caughtUp();
    const bringBack = await takeAway(stage.database.url);
    await waitFor(() => service.condition === 'unavailable', { what: 'the service to notice' });
    const refused = await stage.connect(path, payer.token);
    await refused.untilEnded();
    expect(refused.status).to.equal(200);
    expect(refused.messages).to.deep.equal([
      { type: 'disconnect', data: { reason: 'unavailable', retryAfterMs: 25 }, id: undefined },
    ]);
    expect(
      (await fetch(service.url + path, { headers: { Authorization: `Bearer ${payer.token}` } })).status,
    ).to.equal(503);
    expect((await fetch(`${service.url}/readyz`)).status).to.equal(503);
    expect((await fetch(`${service.url}/healthz`)).status).to.equal(200);
    expect(await metric(service, 'settlewire_refusals_total{reason="unavailable"}')).to.equal(2);
    expect(await metric(service, 'settlewire_relay_caught_up')).to.equal(0);
    await bringBack();
    await waitFor(() => service.condition === 'ready', { what: 'the service to come back' });
    expect(connected.ended, 'those connected stay').to.equal(false);
    const head = await stage.publish(topic);
    await connected.received(1);
    expect(connected.ids).to.deep.equal([head]);
    expect(await metric(service, 'settlewire_relay_reconnects')).to.be.greaterThan(0);
  });

  it('turns a client away whose access could not be looked up', async () => {
    const blockade = await Blockade.of(stage.pool, 'users');
    const connecting = stage.connect(path, payer.token);
    const [pid] = await blockade.waiting('with known');
    await stage.pool.query('select pg_terminate_backend($1)', [pid]);
    const client = await connecting;
    await expectDisconnect(client, 'unavailable');
    expect(client.status).to.equal(200);
    await blockade.lift();
    await (await stage.connect(path, payer.token)).caughtUp();
  });

  it('ends a stream whose replay failed, and the client gets the rest when it comes back', async () => {
    const service = await stage.addService(
      { REPLAY_WINDOW_EVENTS: '0', REPLAY_PAGE_EVENTS: '1' },
      { random: () => 0 },
    );
    const from = stage.cursor;
    await stage.publish(topic, 500);
    await stage.settled(service);
    const client = await stage.connect(path, payer.token, { 'Last-Event-ID': String(from) }, service);
    await client.received(1);
    const blockade = await Blockade.of(stage.pool, 'outbox');
    const [pid] = await blockade.waiting('outbox_replay');
    await stage.pool.query('select pg_terminate_backend($1)', [pid]);
    await expectDisconnect(client, 'unavailable', service);
    await blockade.lift();
    const had = client.ids;
    const again = await stage.connect(
      path,
      payer.token,
      { 'Last-Event-ID': client.lastEventId ?? '' },
      service,
    );
    await again.caughtUp();
    expect([...had, ...again.ids]).to.deep.equal(await outboxIds(stage.pool, [topic], from));
  });
});
