import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { Blockade, untilWaiting } from '../support/blockade.ts';
import { editFunction, type Gate, makeGate } from '../support/gate.ts';
import { openSession } from '../support/session.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { makePerson, type Person } from '../support/world.ts';

const NOW = Math.floor(Date.now() / 1000);

describe('a revoked credential', () => {
  let stage: Stage;
  let other: Service;
  let people = 0;
  let me: Person;

  before(async () => {
    stage = await Stage.open();
    other = await stage.addService({ REPLAY_WINDOW_EVENTS: '0' });
  });
  after(() => stage.close());
  afterEach(() => stage.closeClients());
  beforeEach(async () => {
    people += 1;
    me = await makePerson(stage.pool, people);
    await everywhere();
  });

  async function everywhere(): Promise<void> {
    await Promise.all([stage.settled(), stage.settled(other)]);
  }

  const revoke = async (values: string, ...parameters: unknown[]): Promise<void> => {
    await stage.pool.query(`select outbox_revoke(${values})`, parameters);
    await everywhere();
  };
  const endOf = async (client: SseClient): Promise<unknown> => {
    await client.untilEnded();
    return client.messages.at(-1)?.data['reason'];
  };
  const statusOf = async (path: string, token: string, method = 'GET'): Promise<number> =>
    (await stage.send(method, path, { Authorization: `Bearer ${token}` })).status;

  /** Tokens of one person, and what of them a revocation concerns. */
  const tokens: Record<string, () => Record<string, unknown>> = {
    'by user id': () => ({ sub: me.id }),
    'by user id in capitals': () => ({ sub: me.id.toUpperCase() }),
    'by wallet': () => ({ sub: me.wallet }),
    'by wallet in capitals': () => ({ sub: `0X${me.wallet.slice(2).toUpperCase()}` }),
  };
  for (const [what, claims] of Object.entries(tokens))
    for (const by of ['id', 'wallet'] as const)
      it(`${what} is worth nothing on any instance after a revocation by ${by}, and its streams end`, async () => {
        const token = mintToken({ ...claims(), iat: NOW });
        const clients = [
          await (await stage.connect('/v1/events', token)).caughtUp(),
          await (await stage.connect(`/v1/events?topic=user:${me.id}`, token, {}, other)).caughtUp(),
        ];
        await revoke('$1', me[by]);
        for (const client of clients) expect(await endOf(client)).to.equal('session_revoked');
        for (const service of [stage.service, other]) {
          const back = await stage.connect('/v1/events', token, {}, service);
          expect(back.status).to.equal(401);
          await back.untilEnded();
          expect(JSON.parse(back.raw)).to.include({ code: 'unauthenticated' });
        }
      });

  it('is refused wherever one is asked for', async () => {
    const token = mintToken({ sub: me.id, iat: NOW });
    const asked = [
      ['GET', '/v1/events'],
      ['HEAD', '/v1/events'],
      ['GET', `/v1/events?topic=user:${me.id}`],
      ['GET', '/v1/streams/42/events'],
      ['GET', '/v1/escrows/42/events'],
      ['GET', '/v1/snapshot'],
      ['GET', '/v1/cursor'],
      ['POST', '/v1/session'],
    ] as const;
    const session = await fetch(`${stage.service.url}/v1/session`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${token}` },
    });
    const cookie = session.headers.get('set-cookie')?.split(';')[0] ?? '';
    for (const path of ['/v1/snapshot', '/v1/cursor']) expect(await statusOf(path, token)).to.equal(200);
    const byCookie = await (await stage.connect('/v1/events', undefined, { Cookie: cookie })).caughtUp();
    await revoke('$1', me.wallet);
    expect(await endOf(byCookie)).to.equal('session_revoked');
    for (const [method, path] of asked) {
      expect(await statusOf(path, token, method), `${method} ${path}`).to.equal(401);
      if (method === 'POST') continue;
      const answer = await stage.send(method, path, { Cookie: cookie });
      expect(answer.status, `${method} ${path} by cookie`).to.equal(401);
    }
  });

  it('by jti takes others of the same person along neither at once nor later', async () => {
    const [mine, others] = ['one', 'two'].map((jti) => mintToken({ sub: me.id, jti: `${jti} of ${me.id}` }));
    const lost = await (await stage.connect('/v1/events', mine)).caughtUp();
    const kept = await (await stage.connect('/v1/events', others)).caughtUp();
    await revoke('jti => $1', `one of ${me.id}`);
    expect(await endOf(lost)).to.equal('session_revoked');
    await stage.publish(`user:${me.id}`);
    await kept.received(1);
    expect(kept.ended).to.equal(false);
    expect(await statusOf('/v1/cursor', mine ?? '')).to.equal(401);
    expect(await statusOf('/v1/cursor', others ?? '')).to.equal(200);
  });

  it('is one that was issued at or before the revocation, or that does not say when', async () => {
    const at = new Date(NOW * 1000);
    const from = stage.cursor;
    const young = mintToken({ sub: me.id, iat: NOW + 1 });
    const live = await (await stage.connect('/v1/events', young)).caughtUp();
    await revoke('$1, issued_before => $2', me.id, at);
    for (const [token, status] of [
      [mintToken({ sub: me.id, iat: NOW }), 401],
      [mintToken({ sub: me.id, iat: NOW + 0.5 }), 200],
      [mintToken({ sub: me.id }, { noTimestamp: true }), 401],
      [young, 200],
    ] as const)
      expect(await statusOf('/v1/cursor', token)).to.equal(status);
    await stage.publish(`user:${me.id}`);
    await live.received(1);
    expect(live.ended).to.equal(false);
    await everywhere();
    // Replayed over the revocation, too: from the window and from the database.
    for (const service of [stage.service, other]) {
      const back = await stage.connect('/v1/events', young, { 'Last-Event-ID': String(from) }, service);
      await back.caughtUp();
      expect(back.events.map(({ type }) => type)).to.deep.equal(['test:happened']);
    }
  });

  it('of a wallet that is linked later stays what it was: the user keeps their own', async () => {
    await revoke("'later'");
    const token = mintToken({ sub: me.id, iat: NOW });
    await stage.pool.query(`update users set wallet_address = 'later' where id = $1`, [me.id]);
    await everywhere();
    expect(await statusOf('/v1/cursor', token)).to.equal(200);
    expect(await statusOf('/v1/cursor', mintToken({ sub: 'later', iat: NOW }))).to.equal(401);
  });

  it('of everybody is everybody’s, until they sign in again', async () => {
    const admin = await makePerson(stage.pool, 900 + people, 'ADMIN');
    await everywhere();
    const clients = [
      await (await stage.connect('/v1/events', me.token)).caughtUp(),
      await (await stage.connect('/v1/events', admin.token)).caughtUp(),
      await (await stage.connect(`/v1/events?topic=user:${me.id}`, admin.token, {}, other)).caughtUp(),
    ];
    await revoke(`'*', issued_before => now() + interval '1 minute'`);
    for (const client of clients) expect(await endOf(client)).to.equal('session_revoked');
    expect(await statusOf('/v1/cursor', admin.token)).to.equal(401);
    await stage.pool.query('delete from outbox_revocations');
    expect(await statusOf('/v1/cursor', admin.token)).to.equal(200);
  });

  it('is announced to nobody: not to its owner, not to administrators of everything, live or replayed', async () => {
    const admin = await makePerson(stage.pool, 800 + people, 'ADMIN');
    const start = await stage.settled();
    await stage.settled(other);
    const live = await (await stage.connect('/v1/events', admin.token)).caughtUp();
    await revoke('$1, issued_before => $2', me.id, new Date((NOW - 3600) * 1000));
    await stage.publish(`user:${me.id}`);
    await live.received(1);
    await everywhere();
    const clients = [live];
    for (const service of [stage.service, other])
      for (const token of [admin.token, mintToken({ sub: me.id })])
        clients.push(
          await (
            await stage.connect('/v1/events', token, { 'Last-Event-ID': String(start) }, service)
          ).caughtUp(),
        );
    for (const client of clients)
      expect(client.events.map(({ type }) => type)).to.deep.equal(['test:happened']);
  });

  it('ends a stream at one id on every instance: all before it comes, nothing after it', async () => {
    const topic = `user:${me.id}`;
    const clients = [
      await (await stage.connect('/v1/events', me.token)).caughtUp(),
      await (await stage.connect('/v1/events', me.token, {}, other)).caughtUp(),
    ];
    const writer = await openSession(stage.pool);
    await writer.query('begin');
    const publish = `select outbox_publish($1, 'test:happened', '{}')`;
    await writer.query(publish, [topic]);
    await writer.query('set constraints all immediate; set constraints all deferred');
    await writer.query('select outbox_revoke($1)', [me.id]);
    await writer.query('set constraints all immediate; set constraints all deferred');
    await writer.query(publish, [topic]);
    await writer.query('commit');
    writer.end();
    for (const client of clients) {
      expect(await endOf(client)).to.equal('session_revoked');
      expect(client.events.map(({ type }) => type)).to.deep.equal(['test:happened']);
    }
  });

  it('is known to an instance that starts later, when the event and its partition are long gone', async () => {
    const jti = `jti of ${me.id}`;
    const token = mintToken({ sub: me.id, jti });
    await revoke('jti => $1', jti);
    // What retention does to a partition, done to all.
    await stage.pool.query('delete from outbox');
    const later = await stage.addService();
    expect((await stage.connect('/v1/events', token, {}, later)).status).to.equal(401);
    expect((await stage.connect('/v1/events', me.token, {}, later)).status).to.equal(200);
  });

  describe('at each step of a connect', () => {
    const token = () => mintToken({ sub: me.id, iat: NOW });

    let gate: Gate;
    before(async () => {
      gate = await makeGate(stage.pool);
      // What runs last in the look-up, when its snapshot has been taken; the relay has a name of its own and passes.
      await editFunction(
        stage.pool,
        'outbox_oldest',
        /return \(/,
        (found) =>
          `if current_setting('application_name') = 'settlewire' then perform ${gate.wait}; end if; ${found}`,
      );
    });
    after(() => gate.end());

    it('after the credential is checked, before access is looked up: it is refused', async () => {
      const blockade = await Blockade.of(stage.pool, 'users');
      const connecting = stage.connect('/v1/events', token());
      await blockade.waiting('with known');
      await blockade.meanwhile('select outbox_revoke($1)', [me.id]);
      await blockade.lift();
      expect((await connecting).status).to.equal(401);
    });

    for (const service of ['window', 'database'] as const) {
      it(`while access is looked up, after its snapshot: it gets all before the revocation and nothing after (${service})`, async () => {
        const instance = service === 'window' ? stage.service : other;
        const topic = `user:${me.id}`;
        const from = stage.cursor;
        await stage.publish(topic);
        await stage.settled(other);
        await gate.shut();
        const connecting = stage.connect('/v1/events', token(), { 'Last-Event-ID': String(from) }, instance);
        await untilWaiting(stage.pool, 'with known');
        await stage.commit(topic);
        await stage.pool.query('select outbox_revoke($1)', [me.id]);
        await stage.publish(topic);
        await stage.settled(other);
        await gate.open();
        const client = await connecting;
        expect(await endOf(client)).to.equal('session_revoked');
        expect(client.events).to.have.length(2);
      });

      it(`while it replays to a socket that does not drain: nothing after the revocation (${service})`, async () => {
        const instance = service === 'window' ? stage.service : other;
        const topic = `user:${me.id}`;
        const from = stage.cursor;
        await stage.publish(topic, 100, 10_000);
        await stage.settled(other);
        const client = await stage.connect(
          '/v1/events',
          token(),
          { 'Last-Event-ID': String(from) },
          instance,
        );
        client.pause();
        await revoke('$1', me.id);
        await stage.publish(topic, 5);
        client.resume();
        expect(await endOf(client)).to.equal('session_revoked');
        expect(client.events).to.have.length(100);
      });
    }

    it('in flight, with an id that the client claims to have had: it ends all the same', async () => {
      const writer = await openSession(stage.pool);
      await writer.query('begin');
      await writer.query('select outbox_revoke($1)', [me.id]);
      await writer.query('set constraints all immediate');
      const { rows } = await stage.pool.query<{ last: number }>(
        'select last_value as last from outbox_id_seq',
      );
      const claimed = String(rows[0]?.last);
      const client = await stage.connect('/v1/events', token(), { 'Last-Event-ID': claimed });
      await client.caughtUp();
      await writer.query('commit');
      writer.end();
      expect(await endOf(client)).to.equal('session_revoked');
    });
  });
});
