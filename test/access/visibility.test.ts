import { expect } from 'chai';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { makeEscrow, makePerson, makeStream, type Person } from '../support/world.ts';

describe('who may see what', () => {
  let stage: Stage;
  const people: Record<string, Person> = {};
  let topics: Record<'stream' | 'escrow' | 'user' | 'wallet', string>;

  before(async () => {
    stage = await Stage.open();
    const names = ['payer', 'recipient', 'creator', 'pending', 'accepted', 'rejected', 'stranger', 'closed'];
    for (const [number, name] of names.entries()) people[name] = await makePerson(stage.pool, number + 1);
    people['admin'] = await makePerson(stage.pool, 20, 'ADMIN');
    people['superadmin'] = await makePerson(stage.pool, 21, 'SUPER_ADMIN');
    const stream = await makeStream(stage.pool, person('payer'), person('recipient'));
    const escrow = await makeEscrow(stage.pool, person('creator'));
    for (const [status, role] of [
      ['pending', 'buyer'],
      ['accepted', 'seller'],
      ['rejected', 'arbitrator'],
    ] as const) {
      await stage.pool.query(
        'insert into escrow_parties (escrow_id, user_id, role, status) values ($1, $2, $3, $4)',
        [escrow, person(status).id, role, status],
      );
    }
    await stage.pool.query('update users set is_active = false where id = $1', [person('closed').id]);
    topics = {
      stream: `stream:${stream}`,
      escrow: `escrow:${escrow}`,
      user: `user:${person('payer').id}`,
      wallet: `wallet:${person('payer').wallet}`,
    };
    await stage.settled();
  });

  after(() => stage.close());

  function person(name: string): Person {
    const found = people[name];
    if (found === undefined) throw new Error(`who is ${name}?`);
    return found;
  }

  async function statusOf(token: string, query: string): Promise<number> {
    const client = await stage.connect(`/v1/events?${query}`, token);
    client.close();
    return client.status;
  }

  const mayFollow: Record<string, readonly (keyof typeof topics)[]> = {
    payer: ['stream', 'user', 'wallet'],
    recipient: ['stream'],
    creator: ['escrow'],
    pending: ['escrow'],
    accepted: ['escrow'],
    rejected: [],
    stranger: [],
    closed: [],
    admin: ['stream', 'escrow', 'user', 'wallet'],
    superadmin: ['stream', 'escrow', 'user', 'wallet'],
  };
  for (const [name, allowed] of Object.entries(mayFollow)) {
    it(`${name}: ${allowed.join(', ') || 'nothing of these'}`, async () => {
      for (const kind of ['stream', 'escrow', 'user', 'wallet'] as const) {
        const expected = allowed.includes(kind) ? 200 : 403;
        expect(await statusOf(person(name).token, `topic=${topics[kind]}`), kind).to.equal(expected);
      }
    });
  }

  it('one foreign topic among several is one too many', async () => {
    const { token } = person('payer');
    expect(await statusOf(token, `topic=${topics.stream}&topic=${topics.wallet}`)).to.equal(200);
    expect(await statusOf(token, `topic=${topics.stream}&topic=${topics.escrow}`)).to.equal(403);
  });

  it('a closed account gets no feed and no cookie', async () => {
    const { token } = person('closed');
    expect(await statusOf(token, '')).to.equal(403);
    const headers = { Authorization: `Bearer ${token}` };
    expect((await fetch(`${stage.service.url}/v1/session`, { method: 'POST', headers })).status).to.equal(
      403,
    );
    expect(await statusOf(mintToken({ sub: person('closed').wallet }), '')).to.equal(403);
  });

  it('a topic that is not yours and one that does not exist are refused with the same bytes', async () => {
    const { token } = person('stranger');
    const missing = '00000000-0000-4000-8000-000000000000';
    const paths = [
      ...Object.values(topics).map((topic) => `/v1/events?topic=${topic}`),
      ...['stream', 'escrow', 'user', 'wallet'].flatMap((kind) => [
        `/v1/events?topic=${kind}:${missing}`,
        `/v1/events?topic=${kind}:42`,
        `/v1/events?topic=${kind}:not-a-uuid`,
      ]),
      `/v1/events?topic=user:${person('stranger').id}&topic=${topics.escrow}`,
      `/v1/streams/${topics.stream.slice(7)}/events`,
      `/v1/streams/${missing}/events`,
      `/v1/escrows/${topics.escrow.slice(7)}/events`,
      '/v1/escrows/42/events',
      `/v1/snapshot?topic=${topics.escrow}`,
      `/v1/snapshot?topic=escrow:${missing}`,
    ];
    const answers = await Promise.all(
      paths.map(async (path) => {
        const client = await stage.connect(path, token);
        await client.untilEnded();
        const { date: _, 'x-request-id': __, ...headers } = client.response?.headers ?? {};
        return JSON.stringify([client.status, headers, client.raw]);
      }),
    );
    expect(new Set(answers)).to.have.length(1);
    expect(answers[0]).to.contain('forbidden');
  });

  it('a token by user id and one by wallet address speak for one actor', async () => {
    const { id, wallet } = person('creator');
    const upper = `0X${wallet.slice(2).toUpperCase()}`;
    const actors = await Promise.all(
      [
        mintToken({ sub: id }),
        mintToken({ sub: id.toUpperCase() }),
        mintToken({ sub: wallet }),
        mintToken({ sub: upper }),
      ].map(async (token) => {
        const session = await (await stage.connect('/v1/events', token)).message('session');
        return (session.data['topics'] as string[]).toSorted();
      }),
    );
    expect(actors[0]).to.have.members([`user:${id}`, `wallet:${wallet}`, topics.escrow]);
    for (const actor of actors) expect(actor).to.deep.equal(actors[0]);
  });

  it('what the database says of a known user counts, not what the token says', async () => {
    const { id } = person('stranger');
    const grand = mintToken({ sub: id, role: 'ADMIN', walletAddress: person('payer').wallet });
    expect(await statusOf(grand, `topic=${topics.stream}`)).to.equal(403);
    expect(await statusOf(grand, `topic=${topics.wallet}`)).to.equal(403);
    const humble = mintToken({ sub: person('admin').id, role: 'USER' });
    expect(await statusOf(humble, `topic=${topics.stream}`)).to.equal(200);
  });

  it('a wallet without a user sees its streams, and an unknown user id its own topic', async () => {
    const wallet = '0x00000000000000000000000000000000000000ff';
    const { rows } = await stage.pool.query(
      `insert into streams (payer, recipient, status, rate_per_second, total_amount) values ($1, 'x', 'active', 1, 1) returning id`,
      [wallet],
    );
    await stage.settled();
    expect(await statusOf(mintToken({ sub: wallet }), `topic=stream:${rows[0].id}`)).to.equal(200);
    expect(await statusOf(mintToken({ sub: wallet }), `topic=${topics.stream}`)).to.equal(403);
    const unknown = '99999999-0000-4000-8000-000000000000';
    const session = await (
      await stage.connect(
        '/v1/events',
        mintToken({ sub: unknown, walletAddress: wallet.toUpperCase().replace('X', 'x') }),
      )
    ).message('session');
    expect(session.data['topics']).to.have.members([
      `user:${unknown}`,
      `wallet:${wallet}`,
      `stream:${rows[0].id}`,
    ]);
    expect(await statusOf(mintToken({ sub: unknown }), `topic=user:${unknown}`)).to.equal(200);
  });

  it('an administrator of the feed gets everything', async () => {
    const client = await (await stage.connect('/v1/events', person('admin').token)).caughtUp();
    expect((await client.message('session')).data['topics']).to.deep.equal(['*']);
    await stage.publish(topics.stream);
    await stage.publish(topics.escrow);
    await client.received(2);
    await stage.pool.query('update users set wallet_address = $2 where id = $1', [
      person('stranger').id,
      'moved',
    ]);
    await client.received(4);
    expect(client.ended, "other people's sessions end, not this one").to.equal(false);
  });
});
