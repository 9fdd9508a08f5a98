import { expect } from 'chai';
import { ResumeTokens } from '../../src/access/resume-token.ts';
import type { Service } from '../../src/service.ts';
import { BlackHole } from '../support/black-hole.ts';
import { PoolQueries } from '../support/pool-queries.ts';
import { untilAsleep } from '../support/relay-waits.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { JWT_SECRET, mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { makeEscrow, makePerson, makeStream, type Person } from '../support/world.ts';

describe('a resume token', () => {
  let stage: Stage;
  let queries: PoolQueries;
  let me: Person;
  let other: Person;
  let escrow: string;
  let path: string;
  let people = 0;
  let shiftMs = 0;
  /** Signs as the service does. */
  const ours = new ResumeTokens([JWT_SECRET], 600, () => Date.now() + shiftMs);

  before(async () => {
    // Renewed only where a test says so; and no instance rings in the middle of a test, to find out whether it hears itself: all would read.
    stage = await Stage.open(
      { RESUME_SECONDS: '600', SAFETY_POLL_MS: '600000' },
      { now: () => Date.now() + shiftMs },
    );
    queries = new PoolQueries();
  });
  after(async () => {
    queries.stop();
    await stage.close();
  });

  beforeEach(async () => {
    shiftMs = 0;
    people += 2;
    me = await makePerson(stage.pool, people);
    other = await makePerson(stage.pool, people + 1);
    escrow = await makeEscrow(stage.pool, me);
    path = `/v1/events?topic=escrow:${escrow}&topic=stream:${await makeStream(stage.pool, me, other)}`;
    await stage.settled();
  });
  afterEach(() => stage.closeClients());

  const session = async (client: SseClient) => (await client.message('session')).data;
  const tokenOf = async (client: SseClient) => String((await session(client))['resumeToken']);

  /** A stream's token, and the cursor that it had reached. */
  async function leave(where = path, who = me.token): Promise<{ token: string; cursor: number }> {
    const client = await (await stage.connect(where, who)).caughtUp();
    const token = await tokenOf(client);
    const cursor = Number(client.lastEventId);
    client.close();
    return { token, cursor };
  }

  /** Comes back with nothing but a resume token. */
  function comeBack(
    { token, cursor }: { token: string; cursor?: number },
    where = path,
    service?: Service,
  ): Promise<SseClient> {
    const url = `${where}${where.includes('?') ? '&' : '?'}resume=${token}`;
    const headers: Record<string, string> = cursor === undefined ? {} : { 'Last-Event-ID': String(cursor) };
    return stage.connect(url, undefined, headers, service);
  }

  async function outcome(client: SseClient): Promise<string> {
    if (client.status === 200) return 'ok';
    await client.untilEnded();
    return `${client.status} ${JSON.parse(client.raw).code}`;
  }

  const LOSE = `update escrows set creator_id = $2 where id = $1`;
  const lose = () => stage.pool.query(LOSE, [escrow, other.id]).then(() => stage.settled());
  const regain = () => stage.pool.query(LOSE, [escrow, me.id]).then(() => stage.settled());

  it('brings a client back, exactly where it was, without a query', async () => {
    const left = await leave();
    await stage.publish(`escrow:${escrow}`, 3);
    await stage.publish(`user:${me.id}`);
    let client: SseClient | undefined;
    const asked = await queries.during(async () => {
      client = await (await comeBack(left)).caughtUp();
    });
    expect(asked).to.equal(0);
    expect(client?.events.map(({ type }) => type)).to.deep.equal(Array(3).fill('test:happened'));
    expect(client?.messages.map(({ type }) => type)).not.to.include('reset');
    const again = { token: await tokenOf(client as SseClient), cursor: stage.cursor };
    await stage.publish(`escrow:${escrow}`);
    await client?.received(4);
    const askedAgain = await queries.during(async () => (await comeBack(again)).received(1));
    expect(askedAgain, 'with the token of a resumed stream').to.equal(0);
    expect(await queries.during(async () => (await stage.connect(path, me.token)).caughtUp())).to.equal(1);
  });

  it('costs a feed one query', async () => {
    const left = await leave('/v1/events');
    await stage.publish(`escrow:${escrow}`);
    const asked = await queries.during(async () => (await comeBack(left, '/v1/events')).received(1));
    expect(asked).to.equal(1);
  });

  it('brings an administrator back to what they named, without a query', async () => {
    const admin = await makePerson(stage.pool, 1000 + people, 'ADMIN');
    await stage.settled();
    const left = await leave(path, admin.token);
    await stage.publish(`escrow:${escrow}`);
    expect(await queries.during(async () => (await comeBack(left)).received(1))).to.equal(0);
  });

  it('without a cursor starts at the head', async () => {
    const { token } = await leave();
    await stage.publish(`escrow:${escrow}`);
    const client = await (await comeBack({ token })).caughtUp();
    expect(client.events).to.deep.equal([]);
    expect((await session(client))['cursor']).to.equal(stage.cursor);
  });

  it('hides no revocation: whatever the cursor, what was lost is refused', async () => {
    const before = stage.cursor;
    const left = await leave();
    await lose();
    const after = stage.cursor;
    await stage.publish(`user:${other.id}`);
    for (const cursor of [undefined, 0, before, left.cursor, after, stage.cursor]) {
      const asked = await queries.during(async () => {
        const client = await comeBack({ token: left.token, ...(cursor === undefined ? {} : { cursor }) });
        expect(await outcome(client), `from ${cursor}`).to.equal('403 forbidden');
      });
      // Before the user was there, their wallet was somebody else as far as anybody can tell.
      expect(asked, `from ${cursor}`).to.equal(cursor === 0 ? 1 : 0);
    }
    const looked = await stage.connect(path, me.token);
    const resumed = await comeBack(left);
    await Promise.all([looked.untilEnded(), resumed.untilEnded()]);
    expect(resumed.raw, 'the same as after a look-up').to.equal(looked.raw);
  });

  it('hides no gap between a revocation and a new grant', async () => {
    const left = await leave();
    await stage.publish(`escrow:${escrow}`);
    await lose();
    await stage.publish(`escrow:${escrow}`);
    await regain();
    await stage.publish(`escrow:${escrow}`);
    for (const cursor of [left.cursor, left.cursor + 1, stage.cursor - 1]) {
      const looked = await (
        await stage.connect(path, me.token, { 'Last-Event-ID': String(cursor) })
      ).caughtUp();
      let resumed: SseClient | undefined;
      const asked = await queries.during(async () => {
        resumed = await (await comeBack({ token: left.token, cursor })).caughtUp();
      });
      expect(asked).to.equal(0);
      expect(resumed?.ids).to.deep.equal(looked.ids);
      expect(looked.ids.length).to.be.below(3);
    }
  });

  it('hides no revocation that comes right after the stream has been resumed', async () => {
    const only = `/v1/events?topic=escrow:${escrow}`;
    const left = await leave(only);
    const client = await (await comeBack(left, only)).caughtUp();
    await lose();
    await stage.publish(`escrow:${escrow}`);
    expect((await client.message('disconnect')).data['reason']).to.equal('access_revoked');
    expect(client.events).to.deep.equal([]);
  });

  it('leaves it to the database when the window does not reach back', async () => {
    const small = await stage.addService({ REPLAY_WINDOW_EVENTS: '5', SAFETY_POLL_MS: '600000' });
    const left = await leave();
    await stage.publish(`escrow:${escrow}`, 6);
    await stage.settled(small);
    const asked = await queries.during(async () => (await comeBack(left, path, small)).received(6));
    expect(asked).to.be.above(0);
    // The cursor is within the window, but asOf is not: a revocation there would not be seen.
    await lose();
    await stage.publish(`user:${other.id}`, 6);
    await stage.settled(small);
    expect(await outcome(await comeBack({ token: left.token, cursor: stage.cursor }, path, small))).to.equal(
      '403 forbidden',
    );
  });

  it('leaves it to the database when the relay is behind the token', async () => {
    const proxy = await BlackHole.before(stage.database.url);
    try {
      const late = await stage.addService({
        LISTEN_DATABASE_URL: proxy.url,
        SAFETY_POLL_MS: '600000',
        RELAY_TIMEOUT_MS: '60000',
      });
      await untilAsleep(late);
      proxy.swallow({ application: /^settlewire (relay|listen)$/, direction: 'both', late: true });
      const left = await leave();
      await stage.publish(`escrow:${escrow}`);
      const ahead = await leave();
      expect(late.hub.cursor, 'it has not heard of the event').to.be.below(ahead.cursor);
      const asked = await queries.during(async () => {
        const client = await comeBack({ token: ahead.token, cursor: left.cursor }, path, late);
        expect(await outcome(client)).to.equal('ok');
        proxy.heal();
        await client.received(1);
      });
      expect(asked).to.be.above(0);
    } finally {
      await proxy.stop();
    }
  });

  it('counts no longer in another epoch, but the credential that it came from does', async () => {
    const left = await leave();
    await lose();
    await stage.pool.query('select outbox_new_epoch()');
    const { rows } = await stage.pool.query('select epoch from outbox_meta');
    await stage.commit(`user:${other.id}`);
    await waitFor(() => stage.service.hub.history.epoch === rows[0].epoch, {
      what: 'the new epoch',
      timeoutMs: 10_000,
    });
    await waitFor(() => stage.service.condition === 'ready', { what: 'readiness' });
    expect(await outcome(await comeBack(left))).to.equal('403 forbidden');
    await regain();
    const client = await (await comeBack(left)).caughtUp();
    expect(client.messages.map(({ type }) => type)).to.include('reset');
  });

  it('of another epoch is no shortcut, though all that happened since may be at hand', async () => {
    const { claims, ...rest } = ours.read((await leave()).token);
    for (const [epoch, expected] of [
      [rest.epoch, 0],
      ['another', 1],
    ] as const) {
      const { token } = ours.issue({ claims, ...rest, epoch });
      expect(await queries.during(async () => (await comeBack({ token })).caughtUp()), epoch).to.equal(
        expected,
      );
    }
  });

  it('is no shortcut past a function of the adopter’s, which may change its mind without an event', async () => {
    await stage.pool.query(`
      create function who_may_see(subject text, wallet text, role text) returns setof text language sql stable as
        $$ select 'user:' || subject union all select 'escrow:${escrow}' $$`);
    const adopted = await stage.addService({ AUTHORIZE_FUNCTION: 'public.who_may_see' });
    // A role in the token is for the function to judge.
    const token = mintToken({ sub: me.id, role: 'ADMIN' });
    const where = `/v1/events?topic=escrow:${escrow}`;
    const client = await (await stage.connect(where, token, {}, adopted)).caughtUp();
    const left = { token: await tokenOf(client), cursor: Number(client.lastEventId) };
    expect(await queries.during(async () => (await comeBack(left, where, adopted)).caughtUp())).to.equal(1);
    await stage.pool.query(`
      create or replace function who_may_see(subject text, wallet text, role text) returns setof text language sql stable as
        $$ select 'user:' || subject $$`);
    expect(await outcome(await comeBack(left, where, adopted))).to.equal('403 forbidden');
  });

  it('is worth nothing to somebody who has been closed, or is somebody else now', async () => {
    const left = await leave();
    await stage.pool.query('update users set is_active = false where id = $1', [me.id]);
    await stage.settled();
    expect(await outcome(await comeBack(left))).to.equal('403 forbidden');
    await stage.pool.query('update users set is_active = true, wallet_address = $2 where id = $1', [
      me.id,
      `0x${'d'.repeat(38)}${people.toString(16).padStart(2, '0').slice(-2)}`,
    ]);
    await stage.settled();
    expect(await outcome(await comeBack(left)), 'the stream was the old wallet’s').to.equal('403 forbidden');
  });

  for (const by of ['jti', 'sub'] as const) {
    it(`is refused after its credential has been revoked by ${by}, and so are ticket and cookie; those of others are not`, async () => {
      const jti = `one ${by} ${people}`;
      const credential = mintToken({ sub: me.id, jti });
      const left = await leave(path, credential);
      const theirs = await leave(`/v1/events?topic=user:${other.id}`, other.token);
      const Authorization = `Bearer ${credential}`;
      const session = await stage.send('POST', '/v1/session', { Authorization });
      const Cookie = String(session.headers['set-cookie']).split(';')[0] ?? '';
      const ticket: string = JSON.parse(
        (await stage.send('POST', '/v1/tickets', { Authorization })).body,
      ).ticket;
      await stage.pool.query(`select outbox_revoke(${by} => $1)`, [by === 'jti' ? jti : me.id]);
      await stage.settled();
      for (const cursor of [left.cursor, stage.cursor, undefined])
        expect(
          await outcome(await comeBack({ token: left.token, ...(cursor === undefined ? {} : { cursor }) })),
        ).to.equal('401 unauthenticated');
      expect(await outcome(await stage.connect(path, undefined, { Cookie }))).to.equal('401 unauthenticated');
      expect(await outcome(await stage.connect(`${path}&ticket=${ticket}`))).to.equal('401 unauthenticated');
      const asked = await queries.during(async () =>
        (await comeBack(theirs, `/v1/events?topic=user:${other.id}`)).caughtUp(),
      );
      expect(asked).to.equal(0);
    });
  }

  it('is refused where a revocation was posted, as soon as that is answered', async () => {
    const jti = `posted ${people}`;
    const left = await leave(path, mintToken({ sub: me.id, jti }));
    const answer = await fetch(`${stage.service.adminUrl}/v1/revocations`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ jti }),
    });
    expect(answer.status).to.equal(200);
    expect(await outcome(await comeBack(left))).to.equal('401 unauthenticated');
  });

  it('is for its topics and no others, in any order', async () => {
    const left = await leave();
    const [, first, second] = /^(?:.*)\?(.*)&(.*)$/.exec(path) ?? [];
    expect(await outcome(await comeBack(left, `/v1/events?${second}&${first}&${first}`))).to.equal('ok');
    for (const where of [
      '/v1/events',
      `/v1/events?${first}`,
      `/v1/events?${first}&${second}&topic=user:${me.id}`,
      `/v1/escrows/${escrow}/events`,
    ])
      expect(await outcome(await comeBack(left, where)), where).to.equal('403 forbidden');
    const feed = await leave('/v1/events');
    expect(await outcome(await comeBack(feed)), 'a feed’s').to.equal('403 forbidden');
    const single = await leave(`/v1/escrows/${escrow}/events`);
    expect(await outcome(await comeBack(single, `/v1/events?topic=escrow:${escrow.toUpperCase()}`))).to.equal(
      'ok',
    );
  });

  it('ends after RESUME_SECONDS, and with the credential that it came from', async () => {
    const exp = Math.floor(Date.now() / 1000) + 900;
    const client = await (await stage.connect(path, mintToken({ sub: me.id, exp }))).caughtUp();
    const { resumeToken, resumeExpiresAt, expiresAt } = await session(client);
    expect(Date.parse(String(resumeExpiresAt)) - Date.now()).to.be.within(595_000, 600_000);
    expect(Date.parse(String(expiresAt))).to.equal(exp * 1000);
    const token = String(resumeToken);
    shiftMs = 590_000;
    const back = await (await comeBack({ token })).caughtUp();
    const renewed = await session(back);
    expect(renewed['expiresAt']).to.equal(expiresAt);
    expect(renewed['resumeExpiresAt'], 'never beyond the credential').to.equal(expiresAt);
    shiftMs = 601_000;
    expect(await outcome(await comeBack({ token }))).to.equal('401 token_expired');
    expect(await outcome(await comeBack({ token: String(renewed['resumeToken']) }))).to.equal('ok');
    shiftMs = 901_000;
    expect(await outcome(await comeBack({ token: String(renewed['resumeToken']) }))).to.equal(
      '401 token_expired',
    );
  });

  it('counts for less than a bearer token, even a bad one, for more than a cookie, and only for streams', async () => {
    const { token } = await leave();
    const url = `${path}&resume=${token}`;
    const Cookie = 'settlewire_session=nonsense';
    expect(await outcome(await stage.connect(url, undefined, { Cookie }))).to.equal('ok');
    expect(await outcome(await stage.connect(url, 'x.y.z'))).to.equal('401 unauthenticated');
    expect(await outcome(await stage.connect(`${path}&resume=nonsense`, me.token))).to.equal('ok');
    expect(await outcome(await stage.connect(`${path}&resume=nonsense`))).to.equal('401 unauthenticated');
    expect(await outcome(await stage.connect(`${path}&resume=`, me.token))).to.equal('ok');
    expect(await outcome(await stage.connect(`${path}&resume=`))).to.equal('401 unauthenticated');
    expect(await outcome(await stage.connect(`${url}&resume=${token}`))).to.equal('401 unauthenticated');
    for (const [method, elsewhere] of [
      ['GET', `/v1/snapshot?resume=${token}`],
      ['GET', `/v1/cursor?resume=${token}`],
      ['POST', `/v1/session?resume=${token}`],
      ['POST', `/v1/tickets?resume=${token}`],
    ] as const)
      expect((await stage.send(method, elsewhere)).status, elsewhere).to.equal(401);
  });

  describe('that is renewed', () => {
    let renewing: Service;
    before(async () => {
      renewing = await stage.addService({ RESUME_SECONDS: '6', HEARTBEAT_SECONDS: '0.1' });
    });

    const sessions = (client: SseClient) => client.messages.filter(({ type }) => type === 'session');

    it('comes in a session block of the same shape, with the cursor of now', async () => {
      const client = await stage.connect(path, me.token, {}, renewing);
      await client.caughtUp();
      const first = await session(client);
      const head = await stage.publish(`user:${other.id}`);
      await stage.settled(renewing);
      const again = await waitFor(() => sessions(client).find(({ data }) => data['cursor'] === head), {
        what: 'a renewal at the head',
      });
      expect(again.id).to.equal(undefined);
      expect(Object.keys(again.data)).to.deep.equal(Object.keys(first));
      expect(again.data).to.deep.include({ topics: first['topics'], epoch: first['epoch'] });
      expect(again.data['resumeToken']).not.to.equal(first['resumeToken']);
      expect(Date.parse(String(again.data['resumeExpiresAt']))).to.be.above(
        Date.parse(String(first['resumeExpiresAt'])) - 1,
      );
      // It is as of now: of what happened before nothing is needed any more.
      const { resumeToken } = again.data;
      const asked = await queries.during(async () =>
        (await comeBack({ token: String(resumeToken), cursor: head }, path, renewing)).caughtUp(),
      );
      expect(asked).to.equal(0);
    });

    it('is not, once one of its topics is gone', async () => {
      const client = await (await stage.connect(path, me.token, {}, renewing)).caughtUp();
      await waitFor(() => sessions(client).length > 1, { what: 'a renewal' });
      await lose();
      await stage.settled(renewing);
      const before = sessions(client).length;
      const ticks = client.comments.length + client.messages.length;
      await waitFor(() => client.comments.length + client.messages.length > ticks + 10, {
        what: 'ten heartbeats',
      });
      expect(sessions(client).length).to.equal(before);
      const token = String(sessions(client).at(-1)?.data['resumeToken']);
      expect(await outcome(await comeBack({ token }, path, renewing))).to.be.oneOf([
        '403 forbidden',
        '401 token_expired',
      ]);
      await regain();
      await waitFor(() => sessions(client).length > before, { what: 'a renewal, the topic regained' });
    });
  });
});
