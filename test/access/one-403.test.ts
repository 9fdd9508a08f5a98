import { expect } from 'chai';
import type { Pool } from 'pg';
import { type Answer, Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { makeEscrow, makePerson, makeStream, type Person } from '../support/world.ts';

/** How a request says who is asking. */
interface Credential {
  readonly headers: Record<string, string>;
}

const MISSING = '0b8f2f5e-6f0a-4c3e-9d3b-1f2a3b4c5d6e';

describe('one 403', () => {
  let stage: Stage;
  let me: Person;
  let other: Person;
  /** By what they are to the person who asks. */
  let ids: Record<'stream' | 'escrow' | 'user' | 'wallet', Record<string, string>>;
  const credentials: Record<string, Credential> = {};

  before(async () => {
    stage = await Stage.open();
    me = await makePerson(stage.pool, 1);
    other = await makePerson(stage.pool, 2);
    const plausible = (foreign: string) => ({
      foreign,
      'foreign, in capitals': foreign.toUpperCase(),
      missing: MISSING,
      nil: '00000000-0000-0000-0000-000000000000',
      'a number': '42',
      'a uuid without hyphens': MISSING.replaceAll('-', ''),
      'a uuid and one more': `${foreign}0`,
      'a uuid less one': foreign.slice(0, -1),
      'a word': 'undefined',
      'very long': 'x'.repeat(128),
    });
    ids = {
      stream: {
        ...plausible(await makeStream(stage.pool, other, other)),
        'no longer mine': await lostStream(stage.pool),
      },
      escrow: {
        ...plausible(await makeEscrow(stage.pool, other)),
        'no longer mine': await lostEscrow(stage.pool),
        deleted: await deletedEscrow(stage.pool),
      },
      user: plausible(other.id),
      wallet: { ...plausible(other.wallet), 'of nobody': `0x${'9'.repeat(40)}` },
    };
    await stage.settled();
    credentials['a bearer token by user id'] = { headers: { authorization: `Bearer ${me.token}` } };
    credentials['a bearer token by wallet'] = {
      headers: { authorization: `Bearer ${mintToken({ sub: me.wallet })}` },
    };
    credentials['a cookie'] = { headers: { cookie: await sessionCookie() } };
  });

  after(() => stage.close());

  async function lostStream(pool: Pool): Promise<string> {
    const id = await makeStream(pool, me, other);
    await pool.query('update streams set payer = recipient where id = $1', [id]);
    return id;
  }

  async function lostEscrow(pool: Pool): Promise<string> {
    const id = await makeEscrow(pool, other);
    await pool.query(
      "insert into escrow_parties (escrow_id, user_id, role, status) values ($1, $2, 'buyer', 'accepted')",
      [id, me.id],
    );
    await pool.query('delete from escrow_parties where escrow_id = $1', [id]);
    return id;
  }

  async function deletedEscrow(pool: Pool): Promise<string> {
    const id = await makeEscrow(pool, me);
    await pool.query('delete from escrows where id = $1', [id]);
    return id;
  }

  async function sessionCookie(): Promise<string> {
    const { headers } = await stage.send('POST', '/v1/session', { authorization: `Bearer ${me.token}` });
    return String(headers['set-cookie']).split(';')[0] ?? '';
  }

  function askTicket(topics?: readonly string[]): Promise<Response> {
    return fetch(`${stage.service.url}/v1/tickets`, {
      method: 'POST',
      headers: { Authorization: `Bearer ${me.token}`, 'Content-Type': 'application/json' },
      body: JSON.stringify(topics === undefined ? {} : { topics }),
    });
  }

  async function ticket(): Promise<string> {
    return ((await (await askTicket()).json()) as { ticket: string }).ticket;
  }

  async function resumeToken(path: string): Promise<string> {
    const client = await stage.connect(path, me.token);
    const { data } = await client.message('session');
    client.close();
    return String(data['resumeToken']);
  }

  /** Every way to name a topic in a request. */
  function pathsTo(kind: string, id: string): string[] {
    return [
      `/v1/events?topic=${kind}:${id}`,
      `/v1/events?topic=user:${me.id}&topic=${kind}:${id}`,
      `/v1/events?topic=${kind}:${id}&lastEventId=0`,
      `/v1/events?topic=${kind}:${id}&lastEventId=999999`,
      `/v1/snapshot?topic=${kind}:${id}`,
      `/v1/snapshot?topic=user:${me.id}&topic=${kind}:${id}`,
      ...(kind === 'stream' ? [`/v1/streams/${id}/events`] : []),
      ...(kind === 'escrow' ? [`/v1/escrows/${id}/events`] : []),
    ];
  }

  const bytes = ({ status, headers: { date: _, 'x-request-id': __, ...headers }, body }: Answer) =>
    JSON.stringify([status, headers, body]);

  const variations: Record<string, Record<string, string>> = {
    'as anything': { accept: '*/*' },
    'as a stream': { accept: 'text/event-stream' },
    'with a Last-Event-ID': { accept: 'text/event-stream', 'last-event-id': '1' },
    'with a bad Last-Event-ID': { accept: 'text/event-stream', 'last-event-id': 'x' },
  };

  for (const name of ['a bearer token by user id', 'a bearer token by wallet', 'a cookie']) {
    for (const [variation, headers] of Object.entries(variations)) {
      it(`with ${name}, ${variation}: the same status, headers and body for every id that is not yours`, async () => {
        const credential = credentials[name];
        const seen = new Map<string, string>();
        for (const [kind, named] of Object.entries(ids))
          for (const [what, id] of Object.entries(named))
            for (const path of pathsTo(kind, id)) {
              const answer = await stage.send('GET', path, { ...headers, ...credential?.headers });
              seen.set(bytes(answer), `${kind} ${what}: ${path}`);
            }
        expect([...seen.keys()], [...seen.values()].join('\n')).to.have.length(1);
        const [status, , body] = JSON.parse([...seen.keys()][0] ?? '[]') as [number, object, string];
        expect(status).to.equal(403);
        expect(JSON.parse(body)).to.include({ code: 'forbidden' });
      });
    }
  }

  for (const kind of ['ticket', 'resume'] as const)
    it(`with a ${kind}: the same answer for every id that is not yours`, async () => {
      const token = kind === 'ticket' ? await ticket() : await resumeToken('/v1/events');
      const seen = new Map<string, string>();
      for (const [topicKind, named] of Object.entries(ids))
        for (const [what, id] of Object.entries(named))
          for (const path of pathsTo(topicKind, id).filter((path) => !path.startsWith('/v1/snapshot'))) {
            const withToken = `${path}${path.includes('?') ? '&' : '?'}${kind}=${token}`;
            seen.set(bytes(await stage.send('GET', withToken)), `${topicKind} ${what}: ${path}`);
          }
      expect([...seen.keys()], [...seen.values()].join('\n')).to.have.length(1);
      expect([...seen.keys()][0]).to.match(/^\[403,/);
    });

  it('with a resume token of what was yours and is not any more: the same 403 as with a bearer token for what never was', async () => {
    const id = await makeEscrow(stage.pool, other);
    await stage.pool.query(
      "insert into escrow_parties (escrow_id, user_id, role, status) values ($1, $2, 'buyer', 'accepted')",
      [id, me.id],
    );
    await stage.settled();
    const token = await resumeToken(`/v1/events?topic=escrow:${id}`);
    await stage.pool.query('delete from escrow_parties where escrow_id = $1', [id]);
    await stage.settled();
    const lost = await stage.send('GET', `/v1/events?topic=escrow:${id}&resume=${token}`);
    const never = await stage.send('GET', `/v1/events?topic=escrow:${MISSING}`, {
      authorization: `Bearer ${me.token}`,
    });
    expect(bytes(lost)).to.equal(bytes(never));
    expect(lost.status).to.equal(403);
  });

  it('a ticket for what is not yours is refused with the same bytes as well', async () => {
    const seen = new Set<string>();
    for (const [kind, named] of Object.entries(ids))
      for (const id of Object.values(named)) {
        const answer = await askTicket([`user:${me.id}`, `${kind}:${id}`]);
        const headers = [...answer.headers].filter(([name]) => name !== 'date' && name !== 'x-request-id');
        seen.add(JSON.stringify([answer.status, headers, await answer.text()]));
      }
    expect([...seen]).to.have.length(1);
    expect([...seen][0]).to.match(/^\[403,/);
  });

  it('a HEAD differs from one to the other no more', async () => {
    const seen = new Set<string>();
    for (const [kind, named] of Object.entries(ids))
      for (const id of Object.values(named))
        for (const path of pathsTo(kind, id))
          seen.add(bytes(await stage.send('HEAD', path, { ...credentials['a cookie']?.headers })));
    expect([...seen]).to.have.length(1);
    expect([...seen][0]).to.match(/^\[403,/);
  });

  it('and what is yours is not refused in the same ways', async () => {
    const mine = await makeEscrow(stage.pool, me);
    await stage.settled();
    for (const [name, { headers }] of Object.entries(credentials))
      for (const path of pathsTo('escrow', mine))
        expect((await stage.send('HEAD', path, headers)).status, `${name} ${path}`).to.equal(200);
  });
});
