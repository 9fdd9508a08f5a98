import { expect } from 'chai';
import { Blockade } from '../support/blockade.ts';
import { IssuerKey, JwksEndpoint } from '../support/jwks-endpoint.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

describe('the end of a credential', () => {
  const key = IssuerKey.rsa('r1');
  let endpoint: JwksEndpoint;
  let stage: Stage;
  let person: Person;
  let shiftMs = 0;

  before(async () => {
    endpoint = await JwksEndpoint.open(key.jwk());
    stage = await Stage.open(
      { JWKS_URL: endpoint.url, SIGNING_SECRET: 'the signing secret of these tests, long enough' },
      { now: () => Date.now() + shiftMs },
    );
    person = await makePerson(stage.pool, 1);
    await stage.settled();
  });
  after(async () => {
    await stage.close();
    await endpoint.close();
  });
  beforeEach(() => {
    shiftMs = 0;
  });
  afterEach(() => stage.closeClients());

  type Place = readonly [path: string, headers: Record<string, string>];
  const bearer = (token: string): Place => ['/v1/events', { Authorization: `Bearer ${token}` }];
  const connect = ([path, headers]: Place): Promise<SseClient> => stage.connect(path, undefined, headers);

  /** How to come with a credential of each kind that ends with a token of this `exp`. */
  const kinds: Record<string, (exp: number) => Promise<Place>> = {
    'a bearer token of HS256': async (exp) => bearer(mintToken({ sub: person.id, exp })),
    'a bearer token of RS256': async (exp) => bearer(key.sign({ sub: person.id, exp })),
    'a bearer token that ends between two seconds': async (exp) =>
      bearer(mintToken({ sub: person.id, exp: exp - 0.25 })),
    'a session cookie': async (exp) => {
      const [, { Authorization = '' }] = bearer(mintToken({ sub: person.id, exp }));
      const { headers } = await stage.send('POST', '/v1/session', { Authorization });
      return ['/v1/events', { Cookie: String(headers['set-cookie']).split(';')[0] ?? '' }];
    },
    'a ticket': async (exp) => {
      const [, { Authorization = '' }] = bearer(mintToken({ sub: person.id, exp }));
      const { body } = await stage.send('POST', '/v1/tickets', { Authorization });
      return [`/v1/events?ticket=${JSON.parse(body).ticket}`, {}];
    },
    'a resume token': async (exp) => {
      const first = await connect(bearer(mintToken({ sub: person.id, exp })));
      return [`/v1/events?resume=${(await first.message('session')).data['resumeToken']}`, {}];
    },
  };
  it('one that ends while its bearer waits to be looked up is refused, and shows nothing', async () => {
    const exp = Math.ceil(Date.now() / 1000) + 30;
    const blockade = await Blockade.of(stage.pool, 'outbox_revocations');
    const connecting = connect(bearer(mintToken({ sub: person.id, exp })));
    await blockade.waiting('with known');
    shiftMs = exp * 1000 - Date.now();
    await blockade.lift();
    const client = await connecting;
    await client.untilEnded();
    expect(client.status, client.raw).to.equal(401);
    expect(JSON.parse(client.raw).code).to.equal('token_expired');
  });

  for (const [what, make] of Object.entries(kinds)) {
    it(`${what}: the stream ends with it, within a second, and coming back is refused`, async () => {
      const exp = Math.ceil(Date.now() / 1000) + 30;
      const place = await make(exp);
      shiftMs = exp * 1000 - 400 - Date.now();
      const client = await (await connect(place)).caughtUp();
      await waitFor(() => client.ended, { what: 'the end, a second after exp', timeoutMs: 5000 });
      expect(client.messages.at(-1)).to.deep.include({ type: 'disconnect' });
      expect(client.messages.at(-1)?.data['reason']).to.equal('token_expired');
      const back = await connect(place);
      await back.untilEnded();
      expect([back.status, JSON.parse(back.raw).code]).to.deep.equal([401, 'token_expired']);
    });
  }

  for (const [what, exp] of [
    ['in fifty days, more than a timer can wait', Math.floor(Date.now() / 1000) + 50 * 86_400],
    ['in the year 9999', 253_370_764_800],
    ['on the last day that there is', 8.64e12],
  ] as const) {
    it(`${what}, ends no stream at once`, async () => {
      const client = await (await connect(bearer(mintToken({ sub: person.id, exp })))).caughtUp();
      await waitFor(() => client.comments.length >= 3, { what: 'three heartbeats' });
      expect(client.ended).to.equal(false);
      expect((await client.message('session')).data['expiresAt']).to.equal(
        new Date(exp * 1000).toISOString(),
      );
    });
  }
});
