import { request } from 'node:http';
import { expect } from 'chai';
import { Stage } from '../support/stage.ts';
import { makeEscrow, makePerson, type Person } from '../support/world.ts';

const ADMIN_TOKEN = 'admin-token-of-the-tests-and-of-nobody-else';

interface Body {
  subscriptions: Record<string, unknown>[];
  next: number | null;
  total: number;
  code: string;
}

const bodyOf = async (answer: Response): Promise<Body> => (await answer.json()) as Body;

/** The status of a GET with headers that fetch does not let one choose. */
function statusOf(url: string, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    request(url, { headers, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    })
      .on('error', reject)
      .end();
  });
}

describe('the admin port', () => {
  let stage: Stage;
  let guarded: string;
  let open: string;
  let me: Person;

  before(async () => {
    stage = await Stage.open();
    open = stage.service.adminUrl;
    guarded = (await stage.addService({ ADMIN_HOST: '0.0.0.0', ADMIN_TOKEN })).adminUrl;
    me = await makePerson(stage.pool, 1);
    await stage.settled();
  });
  after(() => stage.close());
  afterEach(() => stage.closeClients());

  it('with a token lets in nobody without it, whatever the path', async () => {
    for (const path of ['/metrics', '/v1/subscriptions', '/v1/revocations', '/nothing'])
      for (const authorization of [
        undefined,
        '',
        'Bearer',
        `Bearer ${ADMIN_TOKEN}x`,
        `Bearer ${ADMIN_TOKEN.slice(1)}`,
        `Basic ${ADMIN_TOKEN}`,
        `Bearer ${me.token}`,
      ]) {
        const headers = authorization === undefined ? {} : { Authorization: authorization };
        const answer = await fetch(guarded + path, { headers });
        expect(answer.status, `${path} ${authorization}`).to.equal(401);
        expect(answer.headers.get('www-authenticate')).to.equal('Bearer');
        expect((await bodyOf(answer)).code).to.equal('unauthenticated');
      }
    const answer = await fetch(`${guarded}/metrics`, { headers: { Authorization: `Bearer ${ADMIN_TOKEN}` } });
    expect(answer.status).to.equal(200);
  });

  it('without one is for programs of this machine, not for pages that its browser shows', async () => {
    const { port } = new URL(open);
    for (const [headers, status] of [
      [{ Host: `127.0.0.1:${port}` }, 200],
      [{ Host: `localhost:${port}` }, 200],
      [{ Host: `[::1]:${port}` }, 200],
      [{ Host: 'evil.example' }, 403],
      [{ Host: `127.0.0.1.evil.example:${port}` }, 403],
      [{ Host: `127.0.0.1:${port}`, Origin: 'https://evil.example' }, 403],
      [{ Host: `127.0.0.1:${port}`, Origin: 'null' }, 403],
    ] as const)
      expect(await statusOf(`${open}/metrics`, headers), JSON.stringify(headers)).to.equal(status);
  });

  it('lists who is subscribed, without anything that lets one in', async () => {
    const escrow = await makeEscrow(stage.pool, me);
    const head = await stage.settled();
    const since = Date.now();
    const client = await (await stage.connect('/v1/events', me.token)).caughtUp();
    const text = await (await fetch(`${open}/v1/subscriptions`)).text();
    const { subscriptions, ...rest } = JSON.parse(text);
    expect(rest).to.deep.equal({ total: 1, next: null });
    const [{ number, since: since_, topics, ...mine }] = subscriptions;
    expect(mine).to.deep.equal({
      actor: { userId: me.id, walletAddress: me.wallet, role: 'USER' },
      address: '127.0.0.1',
      state: 'live',
      cursor: head,
      behind: 0,
      bufferedBytes: 0,
      topicCount: 3,
    });
    expect(topics).to.have.members([`user:${me.id}`, `wallet:${me.wallet}`, `escrow:${escrow}`]);
    expect(number).to.be.above(0);
    expect(Date.parse(since_)).to.be.within(since - 1000, Date.now());
    for (const part of me.token.split('.')) expect(text).not.to.contain(part);
    client.close();
  });

  it('lists an administrator of everything, and one who is behind', async () => {
    const admin = await makePerson(stage.pool, 2, 'ADMIN');
    const from = await stage.settled();
    const all = await (await stage.connect('/v1/events', admin.token)).caughtUp();
    await stage.publish(`user:${me.id}`, 400, 10_000);
    all.close();
    const slow = await stage.connect('/v1/events', admin.token, { 'Last-Event-ID': String(from) });
    slow.pause();
    const head = await stage.publish(`user:${me.id}`, 400, 10_000);
    const { subscriptions } = await bodyOf(await fetch(`${open}/v1/subscriptions`));
    const found = subscriptions.find(({ state }) => state === 'replaying');
    if (found === undefined) throw new Error('nobody is replaying');
    expect(found).to.include({ topicCount: null });
    expect(found['topics']).to.deep.equal(['*']);
    expect(Number(found['cursor']) + Number(found['behind'])).to.equal(head);
    expect(found['behind']).to.be.above(0);
  });

  it('lists page by page', async () => {
    for (let n = 0; n < 5; n += 1) await (await stage.connect('/v1/events', me.token)).caughtUp();
    const numbers: number[] = [];
    let after: number | null = 0;
    while (after !== null) {
      const answer = await fetch(`${open}/v1/subscriptions?limit=2&after=${after}`);
      const { subscriptions, next, total } = await bodyOf(answer);
      expect(total).to.be.at.least(5);
      numbers.push(...subscriptions.map(({ number }) => Number(number)));
      after = next;
    }
    expect(new Set(numbers).size).to.equal(numbers.length);
    expect(numbers).to.deep.equal(numbers.toSorted((a, b) => a - b));
    for (const query of ['limit=0', 'limit=1001', 'limit=x', 'after=-1', 'limit=1&limit=2'])
      expect((await fetch(`${open}/v1/subscriptions?${query}`)).status, query).to.equal(400);
  });
});
