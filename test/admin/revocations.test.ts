import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { metric } from '../support/metrics.ts';
import { append, openSession, scalar } from '../support/session.ts';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { makeEscrow, makePerson, type Person } from '../support/world.ts';

interface Body {
  eventId: number;
  code: string;
}

const bodyOf = async (answer: Response): Promise<Body> => (await answer.json()) as Body;

const NOW = Math.floor(Date.now() / 1000);

describe('POST /v1/revocations', () => {
  let stage: Stage;
  let other: Service;
  let people = 0;
  let me: Person;

  before(async () => {
    stage = await Stage.open();
    other = await stage.addService();
  });
  after(() => stage.close());
  afterEach(() => stage.closeClients());
  beforeEach(async () => {
    people += 1;
    me = await makePerson(stage.pool, people);
    await stage.settled();
    await stage.settled(other);
  });

  const post = (body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${stage.service.adminUrl}/v1/revocations`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });

  it('ends the streams of a sub, here before it answers and elsewhere by its event, and lets none in again', async () => {
    const tokens = [me.id, me.wallet].map((sub) => mintToken({ sub, iat: NOW }));
    const mine = await Promise.all(tokens.map((token) => stage.connect('/v1/events', token)));
    const theirs = await stage.connect('/v1/events', tokens[0], {}, other);
    for (const client of [...mine, theirs]) await client.caughtUp();
    const ended = await metric(stage.service, 'settlewire_disconnects_total{reason="session_revoked"}');
    const answer = await post({ sub: me.id });
    expect(answer.status).to.equal(200);
    const body = await bodyOf(answer);
    expect(stage.service.hub.subscribers.size).to.equal(0);
    expect(stage.cursor).to.be.at.least(body.eventId);
    expect(await metric(stage.service, 'settlewire_disconnects_total{reason="session_revoked"}')).to.equal(
      ended + 2,
    );
    for (const client of [...mine, theirs]) {
      await client.untilEnded();
      expect(client.messages.at(-1)?.data['reason']).to.equal('session_revoked');
    }
    for (const service of [stage.service, other])
      for (const token of tokens)
        expect((await stage.connect('/v1/events', token, {}, service)).status).to.equal(401);
  });

  it('of a jti, and of an administrator of everything', async () => {
    const admin = await makePerson(stage.pool, 500 + people, 'ADMIN');
    await stage.settled();
    const jti = `j:${people}/é`;
    const client = await (await stage.connect('/v1/events', mintToken({ sub: admin.id, jti }))).caughtUp();
    const kept = await (await stage.connect('/v1/events', admin.token)).caughtUp();
    expect((await post({ jti, expiresAt: '2100-01-01T00:00:00+02:00' })).status).to.equal(200);
    await client.untilEnded();
    expect(kept.ended).to.equal(false);
    expect(
      await scalar<Date>(stage.pool, 'select until from outbox_revocations where token_id = $1', [jti]),
    ).to.deep.equal(new Date('2099-12-31T22:00:00Z'));
    const again = await post({ jti, expiresAt: '2099-01-01T00:00:00Z' });
    expect(again.status).to.equal(200);
  });

  it('of those issued before a time leaves younger ones alone', async () => {
    const young = await (await stage.connect('/v1/events', mintToken({ sub: me.id, iat: NOW }))).caughtUp();
    const issuedBefore = new Date((NOW - 1) * 1000).toISOString();
    expect((await post({ sub: me.wallet, issuedBefore })).status).to.equal(200);
    await stage.publish(`user:${me.id}`);
    await young.received(1);
    expect(young.ended).to.equal(false);
  });

  it('is in force at once even if a writer holds every relay back, and says that its event is yet to come', async () => {
    const escrow = await makeEscrow(stage.pool, me);
    await stage.settled();
    const token = mintToken({ sub: me.id, iat: NOW });
    const client = await (await stage.connect('/v1/events', token)).caughtUp();
    // Its user's own topic is none that it is given.
    const named = await (await stage.connect(`/v1/events?topic=escrow:${escrow}`, token)).caughtUp();
    const writer = await openSession(stage.pool);
    await writer.query('begin');
    await append(writer);
    const answer = await post({ sub: me.id });
    expect(answer.status).to.equal(202);
    const { eventId } = await bodyOf(answer);
    expect(stage.cursor).to.be.below(eventId);
    await client.untilEnded();
    await named.untilEnded();
    for (const service of [stage.service, other])
      expect(
        (await stage.connect('/v1/events', mintToken({ sub: me.id, iat: NOW }), {}, service)).status,
      ).to.equal(401);
    writer.end();
  });

  const bad: Record<string, unknown> = {
    'neither sub nor jti': {},
    both: { sub: 'a', jti: 'b' },
    'a jti with a time': { jti: 'a', issuedBefore: '2026-01-01T00:00:00Z' },
    'a sub that cannot be': { sub: 'user:a' },
    'an empty sub': { sub: '' },
    'an empty jti': { jti: '' },
    'a jti that is too long': { jti: 'x'.repeat(1025) },
    'a jti with NUL': { jti: 'a\0' },
    'a jti with half a character': '{"jti":"\\ud800"}',
    'a time that is none': { sub: 'a', issuedBefore: 'yesterday' },
    'a number for a time': { sub: 'a', issuedBefore: 1 },
    'a time that Postgres does not know': { sub: 'a', expiresAt: '0000-01-01T00:00:00Z' },
    'a key that nobody knows': { sub: 'a', until: '2030-01-01T00:00:00Z' },
    'no object': [],
    'no JSON': '{',
    null: 'null',
  };
  for (const [what, body] of Object.entries(bad))
    it(`refuses ${what}, with a problem`, async () => {
      const count = await scalar<number>(stage.pool, 'select count(*) from outbox_revocations');
      const answer = await post(body);
      expect(answer.status).to.equal(400);
      expect(answer.headers.get('content-type')).to.match(/^application\/problem\+json/);
      expect((await bodyOf(answer)).code).to.equal('bad_request');
      expect(await scalar(stage.pool, 'select count(*) from outbox_revocations')).to.equal(count);
    });

  it('refuses a body that is too large, one of another type, and other methods', async () => {
    const large = await post({ sub: 'x'.repeat(17_000) });
    expect([large.status, (await bodyOf(large)).code]).to.deep.equal([413, 'payload_too_large']);
    const text = await post({ sub: me.id }, { 'Content-Type': 'text/plain' });
    expect([text.status, (await bodyOf(text)).code]).to.deep.equal([400, 'bad_request']);
    const get = await fetch(`${stage.service.adminUrl}/v1/revocations`);
    expect([get.status, get.headers.get('allow')]).to.deep.equal([405, 'POST']);
    expect((await stage.send('POST', '/v1/revocations')).status, 'on the public port').to.equal(404);
  });

  it('is unavailable when the database is', async () => {
    await stage.pool.query('alter function outbox_revoke rename to outbox_revoke_away');
    try {
      const answer = await post({ sub: me.id });
      expect([answer.status, (await bodyOf(answer)).code]).to.deep.equal([503, 'unavailable']);
    } finally {
      await stage.pool.query('alter function outbox_revoke_away rename to outbox_revoke');
    }
  });

  it('is counted by the next round of retention', async () => {
    await post({ sub: me.id });
    const later = await stage.addService();
    const held = await scalar<number>(stage.pool, 'select count(*) from outbox_revocations');
    expect(held).to.be.above(0);
    await waitFor(async () => (await metric(later, 'settlewire_revocations')) === held, {
      what: 'the first round of retention',
    });
  });
});
