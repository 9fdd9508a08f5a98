import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { openSession } from '../support/session.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { makePerson, makeStream, type Person } from '../support/world.ts';

/** Issued before anything happens here, as a token that somebody has kept. */
const OLD = { iat: Math.floor(Date.now() / 1000) - 60 };

describe('who somebody is', () => {
  let stage: Stage;
  let windowless: Service;
  let services: Service[];
  let people = 0;
  let me: Person;
  let other: Person;

  before(async () => {
    stage = await Stage.open();
    windowless = await stage.addService({ REPLAY_WINDOW_EVENTS: '0' });
    services = [stage.service, windowless];
  });
  after(() => stage.close());
  afterEach(() => stage.closeClients());
  beforeEach(async () => {
    me = await makePerson(stage.pool, ++people);
    other = await makePerson(stage.pool, ++people);
    await everywhere();
  });

  const everywhere = async (): Promise<void> => {
    for (const service of services) await stage.settled(service);
  };
  const change = async (person: Person, set: string, ...values: unknown[]): Promise<void> => {
    await stage.pool.query(`update users set ${set} where id = $1`, [person.id, ...values]);
    await everywhere();
  };
  const publish = async (topic: string, type: string): Promise<void> => {
    await stage.pool.query(`select outbox_publish($1, $2, '{}')`, [topic, type]);
    await everywhere();
  };
  const comeBack = async (
    token: string,
    from: number,
    service: Service,
    headers: Record<string, string> = {},
  ): Promise<SseClient> =>
    (
      await stage.connect('/v1/events', token, { 'Last-Event-ID': String(from), ...headers }, service)
    ).caughtUp();
  const statusOf = async (token: string): Promise<number> =>
    (await stage.send('GET', '/v1/cursor', { Authorization: `Bearer ${token}` })).status;
  const typesOf = (client: SseClient): string[] => client.events.map(({ type }) => type);

  /** A new wallet for the person, with a stream, on which something happened before it was theirs. */
  async function anotherWallet(): Promise<{ wallet: string; topic: string }> {
    const wallet = `w-${people}`;
    const stream = await makeStream(stage.pool, { ...other, wallet }, { ...other, wallet });
    return { wallet, topic: `stream:${stream}` };
  }

  const changes: Record<string, (wallet: string) => Promise<void>> = {
    'a new wallet': (wallet) => change(me, 'wallet_address = $2', wallet),
    'the role of an administrator': () => change(me, `role = 'ADMIN'`),
    'a new wallet and the old one again': async (wallet) => {
      await change(me, 'wallet_address = $2', wallet);
      await change(me, 'wallet_address = $2', me.wallet);
    },
    'an account that was closed and opened again': async () => {
      await change(me, 'is_active = false');
      await change(me, 'is_active = true');
    },
  };
  for (const [what, happen] of Object.entries(changes))
    it(`${what}: who comes back from before it is given nothing of then, is told so, and follows from there`, async () => {
      const { wallet, topic } = await anotherWallet();
      await everywhere();
      const from = stage.cursor;
      const live = await (await stage.connect('/v1/events', me.token)).caughtUp();
      await publish(topic, 'test:before');
      await publish(`user:${me.id}`, 'test:mine');
      await happen(wallet);
      await live.untilEnded();
      expect(live.messages.at(-1)?.data['reason']).to.equal('session_revoked');
      const head = stage.cursor;
      await publish(`user:${me.id}`, 'test:after');
      const told: SseClient[] = [];
      for (const service of services) {
        const back = await comeBack(me.token, from, service);
        expect((await back.message('reset')).data).to.include({
          reason: 'identity',
          requested: from,
          cursor: service.hub.cursor,
        });
        expect(typesOf(back)).to.deep.equal([]);
        // From the change on there is nothing to hide.
        const since = await comeBack(me.token, head, service);
        expect(typesOf(since)).to.deep.equal(['test:after']);
        expect(since.messages.map(({ type }) => type)).not.to.include('reset');
        told.push(back);
      }
      await publish(`user:${me.id}`, 'test:live');
      for (const client of told) {
        await client.received(1);
        expect(typesOf(client)).to.deep.equal(['test:live']);
      }
    });

  it('an administrator no longer, by cookie and with a cursor from then: nothing of other people', async () => {
    const admin = await makePerson(stage.pool, ++people, 'ADMIN');
    await everywhere();
    const from = stage.cursor;
    const session = await fetch(`${stage.service.url}/v1/session`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${admin.token}` },
    });
    const Cookie = session.headers.get('set-cookie')?.split(';')[0] ?? '';
    await publish(`user:${me.id}`, 'test:other');
    await change(admin, `role = 'USER'`);
    await publish(`user:${me.id}`, 'test:other');
    for (const service of services) {
      const back = await stage.connect(
        '/v1/events',
        undefined,
        { Cookie, 'Last-Event-ID': String(from) },
        service,
      );
      await back.caughtUp();
      expect((await back.message('reset')).data['reason']).to.equal('identity');
      expect(typesOf(back)).to.deep.equal([]);
    }
  });

  it('without a cursor there is nothing to reset', async () => {
    await change(me, `role = 'ADMIN'`);
    const client = await (await stage.connect('/v1/events', me.token)).caughtUp();
    expect(client.messages.map(({ type }) => type)).not.to.include('reset');
  });

  it('a user that is inserted ends what spoke for their id and wallet, whose past stays theirs', async () => {
    const id = `${String(people).padStart(8, '0')}-0000-4000-8000-000000000000`;
    const { wallet, topic } = await anotherWallet();
    await everywhere();
    const from = stage.cursor;
    const [grand, byWallet] = [mintToken({ sub: id, role: 'ADMIN' }), mintToken({ sub: wallet })];
    const clients = [
      await (await stage.connect('/v1/events', grand)).caughtUp(),
      await (await stage.connect('/v1/events', byWallet)).caughtUp(),
    ];
    await publish(topic, 'test:stream');
    await stage.pool.query('insert into users (id, wallet_address) values ($1, $2)', [id, wallet]);
    for (const client of clients) {
      await client.untilEnded();
      expect(client.messages.at(-1)?.data['reason']).to.equal('session_revoked');
      expect(typesOf(client)).to.deep.equal(['test:stream']);
    }
    await everywhere();
    for (const service of services) {
      const back = await comeBack(grand, from, service);
      expect((await back.message('reset')).data['reason']).to.equal('identity');
      expect((await back.message('session')).data['topics']).to.have.members([
        `user:${id}`,
        `wallet:${wallet}`,
        topic,
      ]);
      expect(typesOf(back)).to.deep.equal([]);
    }
  });

  it('a change that is in flight, with an id that the client claims to have had, ends the stream', async () => {
    const writer = await openSession(stage.pool);
    await writer.query('begin');
    await writer.query('update users set is_active = false where id = $1', [me.id]);
    await writer.query('set constraints all immediate');
    const { rows } = await stage.pool.query<{ last: number }>('select last_value as last from outbox_id_seq');
    const client = await comeBack(me.token, rows[0]?.last ?? 0, stage.service);
    await writer.query('commit');
    writer.end();
    await client.untilEnded();
    expect(client.messages.at(-1)?.data['reason']).to.equal('session_revoked');
  });

  describe('once nobody knows the name any more', () => {
    it('a deleted administrator is none again by the role in an old token, by id or by wallet', async () => {
      const admin = await makePerson(stage.pool, ++people, 'ADMIN');
      const old = [admin.id, admin.wallet].map((sub) => mintToken({ sub, role: 'ADMIN', ...OLD }));
      const nobody = mintToken({
        sub: '99999999-0000-4000-8000-000000000000',
        walletAddress: admin.wallet,
        ...OLD,
      });
      const live = await (await stage.connect('/v1/events', old[0])).caughtUp();
      await stage.pool.query('delete from users where id = $1', [admin.id]);
      await live.untilEnded();
      expect(live.messages.at(-1)?.data['reason']).to.equal('session_revoked');
      for (const token of [...old, nobody]) expect(await statusOf(token)).to.equal(401);
    });

    it('a demoted administrator who parts from their wallet is none again by the wallet’s old token', async () => {
      const admin = await makePerson(stage.pool, ++people, 'ADMIN');
      const old = mintToken({ sub: admin.wallet, role: 'ADMIN', ...OLD });
      await change(admin, `role = 'USER'`);
      await change(admin, 'wallet_address = null');
      expect(await statusOf(old)).to.equal(401);
      expect(await statusOf(mintToken({ sub: admin.id, ...OLD })), 'their own').to.equal(200);
    });

    it('a wallet that goes straight to somebody else: its tokens speak for nobody, theirs go on', async () => {
      const old = mintToken({ sub: me.wallet, role: 'ADMIN', ...OLD });
      const writer = await openSession(stage.pool);
      await writer.query('begin');
      await writer.query('update users set wallet_address = null where id = $1', [me.id]);
      await writer.query('update users set wallet_address = $2 where id = $1', [other.id, me.wallet]);
      await writer.query('commit');
      writer.end();
      await everywhere();
      expect(await statusOf(old), 'a token of the wallet').to.equal(401);
      expect(await statusOf(mintToken({ sub: other.id, ...OLD })), 'their own').to.equal(200);
      for (const service of services) {
        const fresh = mintToken({ sub: me.wallet, iat: Math.floor(Date.now() / 1000) + 2 });
        const back = await stage.connect('/v1/events', fresh, {}, service);
        expect((await back.message('session')).data['topics'], 'a new one').to.include(`user:${other.id}`);
      }
    });

    it('a user deleted and inserted again in one transaction keeps their tokens, and starts anew', async () => {
      const token = mintToken({ sub: me.id, ...OLD });
      const from = stage.cursor;
      const writer = await openSession(stage.pool);
      await writer.query('begin');
      await writer.query('delete from users where id = $1', [me.id]);
      await writer.query('insert into users (id, wallet_address) values ($1, $2)', [me.id, me.wallet]);
      await writer.query('commit');
      writer.end();
      await everywhere();
      const back = await comeBack(token, from, stage.service);
      expect((await back.message('reset')).data['reason']).to.equal('identity');
    });
  });

  describe('and TRUNCATE', () => {
    it('of streams ends every session and resets older cursors', async () => {
      const topic = `stream:${await makeStream(stage.pool, me, me)}`;
      await everywhere();
      const from = stage.cursor;
      const live = await (await stage.connect(`/v1/events?topic=${topic}`, me.token)).caughtUp();
      await publish(topic, 'test:before');
      await stage.pool.query('truncate streams cascade');
      await live.untilEnded();
      expect(live.messages.at(-1)?.data['reason']).to.equal('session_revoked');
      await publish(topic, 'test:after');
      expect(typesOf(live)).to.deep.equal(['test:before']);
      expect((await stage.connect(`/v1/events?topic=${topic}`, me.token)).status).to.equal(403);
      for (const service of services) {
        const back = await comeBack(me.token, from, service);
        expect((await back.message('reset')).data['reason']).to.equal('identity');
        expect(typesOf(back)).to.deep.equal([]);
      }
    });

    it('of users leaves no token that counts, and no access that is taken for granted', async () => {
      const escrow = '77777777-0000-4000-8000-000000000000';
      const insert = `insert into escrows (id, amount, creator_id) values ($1, 1, $2)`;
      await stage.pool.query(insert, [escrow, me.id]);
      const grand = mintToken({ sub: me.id, role: 'ADMIN', ...OLD });
      const admin = await makePerson(stage.pool, ++people, 'ADMIN');
      await everywhere();
      const live = await (await stage.connect('/v1/events', admin.token)).caughtUp();
      await stage.pool.query('truncate users cascade');
      await live.untilEnded();
      expect(typesOf(live), 'nobody is told of the end of all sessions').to.deep.equal([]);
      for (const token of [grand, admin.token, mintToken({ sub: me.wallet, role: 'ADMIN', ...OLD })])
        expect(await statusOf(token)).to.equal(401);
      await stage.pool.query('delete from outbox_revocations');
      await stage.pool.query('insert into users (id, wallet_address) values ($1, $2)', [me.id, me.wallet]);
      await everywhere();
      const feed = await (await stage.connect('/v1/events', me.token)).caughtUp();
      await stage.pool.query(insert, [escrow, me.id]);
      expect((await feed.message('access:granted')).data).to.deep.equal({ topic: `escrow:${escrow}` });
    });

    it('has its like for rows that were loaded without triggers', async () => {
      const topic = `stream:${await makeStream(stage.pool, me, me)}`;
      await everywhere();
      const live = await (await stage.connect(`/v1/events?topic=${topic}`, me.token)).caughtUp();
      const owner = await openSession(stage.pool);
      await owner.query('begin; set local session_replication_role = replica');
      await owner.query('delete from streams where id = $1', [topic.slice(7)]);
      await owner.query('set local session_replication_role = origin');
      await owner.query('select outbox_end_all_sessions()');
      await owner.query('commit');
      owner.end();
      await live.untilEnded();
      expect((await stage.connect(`/v1/events?topic=${topic}`, me.token)).status).to.equal(403);
    });
  });
});
