import { expect } from 'chai';
import jwt from 'jsonwebtoken';
import { SessionCookie } from '../../src/access/session-cookie.ts';
import { CredentialError } from '../../src/access/token.ts';
import { rawHttp } from '../support/raw-http.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { JWT_SECRET, mintToken } from '../support/tokens.ts';
import { makePerson, type Person } from '../support/world.ts';

describe('a session cookie', () => {
  it('says by what the credential that it came from can be revoked', () => {
    const cookie = new SessionCookie(
      ['a secret of this test alone, long enough for it'],
      'strict',
      () => 1000,
    );
    for (const [tokenId, issuedAt] of [
      ['one', 0],
      [null, null],
    ] as const) {
      const claims = { subject: 'me', walletAddress: null, role: null, expiresAt: 60, tokenId, issuedAt };
      expect(cookie.read(cookie.issue(claims, { secure: true }), { secure: true })).to.deep.equal(claims);
    }
  });
});

describe('the session cookie', () => {
  let stage: Stage;
  let person: Person;
  let shiftMs = 0;

  before(async () => {
    stage = await Stage.open({}, { now: () => Date.now() + shiftMs });
    person = await makePerson(stage.pool, 1);
    await stage.settled();
  });

  after(() => stage.close());
  beforeEach(() => {
    shiftMs = 0;
  });

  function call(method: string, headers: Record<string, string>): Promise<Response> {
    return fetch(`${stage.service.url}/v1/session`, { method, headers });
  }

  async function open(token = person.token): Promise<{ response: Response; cookie: string; value: string }> {
    const response = await call('POST', { Authorization: `Bearer ${token}` });
    const cookie = response.headers.get('set-cookie') ?? '';
    return { response, cookie, value: cookie.slice(cookie.indexOf('=') + 1, cookie.indexOf(';')) };
  }

  async function follow(headers: Record<string, string>): Promise<SseClient> {
    return stage.connect('/v1/events', undefined, headers);
  }

  /** The outcome of a stream opened with these headers: ok, or the problem's code. */
  async function outcome(headers: Record<string, string>): Promise<string> {
    const client = await follow(headers);
    if (client.status === 200) return 'ok';
    await client.untilEnded();
    return `${client.status} ${JSON.parse(client.raw).code}`;
  }

  it('is what a bearer token becomes, with who that is and until when', async () => {
    const exp = Math.floor(Date.now() / 1000) + 600;
    const { response, cookie, value } = await open(mintToken({ sub: person.id, exp }));
    expect(response.status).to.equal(200);
    expect(response.headers.get('cache-control')).to.equal('no-store');
    expect(await response.json()).to.deep.equal({
      userId: person.id,
      walletAddress: person.wallet,
      role: 'USER',
      expiresAt: new Date(exp * 1000).toISOString(),
    });
    expect(cookie).to.match(/^settlewire_session=[\w.-]+; /);
    const attributes = cookie.split('; ').slice(1);
    expect(attributes.filter((attribute) => !attribute.startsWith('Max-Age'))).to.have.members([
      'HttpOnly',
      'SameSite=Strict',
      'Path=/',
    ]);
    expect(Number(/Max-Age=(\d+)/.exec(cookie)?.[1])).to.be.within(595, 600);
    const client = await (
      await follow({ Cookie: `theme=dark; settlewire_session=${value}; x=y` })
    ).caughtUp();
    expect((await client.message('session')).data).to.deep.include({
      topics: [`user:${person.id}`, `wallet:${person.wallet}`],
      expiresAt: new Date(exp * 1000).toISOString(),
    });
  });

  it('is for https alone, but for plain http on a loopback name', async () => {
    const secure: Record<string, boolean> = {
      '127.0.0.1:8080': false,
      'localhost:8080': false,
      '[::1]': false,
      'pay.example.com': true,
      'localhost.example.com': true,
      '127.0.0.1.example.com:80': true,
    };
    for (const [host, expected] of Object.entries(secure)) {
      for (const method of ['POST', 'DELETE']) {
        const client = await stage.send(method, '/v1/session', {
          Host: host,
          Authorization: `Bearer ${person.token}`,
        });
        const cookie = String(client.headers['set-cookie']);
        expect(cookie.includes('Secure'), `${method} ${host}`).to.equal(expected);
        expect(cookie.startsWith('__Host-settlewire_session='), `${method} ${host}`).to.equal(expected);
      }
    }
  });

  it('counts over https only under the name that nobody else can set', async () => {
    const { value } = await open();
    const status = async (name: string, headers: Record<string, string>) =>
      (await stage.send('GET', '/v1/cursor', { ...headers, Cookie: `${name}=${value}` })).status;
    const https = { Host: 'pay.example.com' };
    expect(await status('__Host-settlewire_session', https)).to.equal(200);
    expect(await status('settlewire_session', https)).to.equal(401);
    expect(await status('__Host-settlewire_session', {})).to.equal(401);
  });

  it('counts for pages of our own and of CORS_ORIGINS, and for no others', async () => {
    const { value } = await open();
    const other = await stage.addService({ CORS_ORIGINS: 'https://app.example.com' });
    const status = async (name: string, headers: Record<string, string>): Promise<number> => {
      const response = await stage.send(
        'GET',
        '/v1/cursor',
        { ...headers, Cookie: `${name}settlewire_session=${value}` },
        other,
      );
      return response.status;
    };
    const { host } = new URL(other.url);
    const allowed: Record<string, string>[] = [
      {},
      { Origin: `http://${host}` },
      { Origin: 'https://app.example.com' },
      { Origin: 'https://app.example.com', 'Sec-Fetch-Site': 'cross-site' },
      { 'Sec-Fetch-Site': 'same-origin' },
      { 'Sec-Fetch-Site': 'none' },
    ];
    const foreign: Record<string, string>[] = [
      { Origin: 'https://evil.example.com' },
      { Origin: 'https://evil.example.com', 'Sec-Fetch-Site': 'same-origin' },
      { Origin: 'http://app.example.com' },
      { Origin: 'https://app.example.com.evil.example.com' },
      { Origin: `https://${host}` },
      { Origin: 'http://127.0.0.1:1' },
      { Origin: 'null' },
      { Origin: '' },
      { 'Sec-Fetch-Site': 'cross-site' },
      { 'Sec-Fetch-Site': 'same-site' },
    ];
    for (const headers of allowed) expect(await status('', headers), JSON.stringify(headers)).to.equal(200);
    for (const headers of foreign) expect(await status('', headers), JSON.stringify(headers)).to.equal(401);
    const Host = 'pay.example.com:443';
    expect(await status('__Host-', { Host, Origin: 'https://pay.example.com' })).to.equal(200);
    expect(await status('__Host-', { Host, Origin: 'http://pay.example.com' })).to.equal(401);
    expect(await status('__Host-', { Host: '<', Origin: 'https://<' })).to.equal(401);
    const bearer = { Authorization: `Bearer ${person.token}`, Origin: 'https://evil.example.com' };
    expect(await status('', bearer), 'a bearer token is sent on purpose').to.equal(200);
  });

  it('is as SameSite as COOKIE_SAME_SITE says; None goes with Secure', async () => {
    for (const [setting, plain, secure] of [
      ['strict', 'Strict', 'Strict'],
      ['lax', 'Lax', 'Lax'],
      ['none', 'Lax', 'None'],
    ] as const) {
      const service = await stage.addService({ COOKIE_SAME_SITE: setting });
      for (const [host, expected] of [
        ['localhost', plain],
        ['pay.example.com', secure],
      ] as const) {
        const { headers } = await stage.send('DELETE', '/v1/session', { Host: host }, service);
        expect(String(headers['set-cookie'])).to.match(new RegExp(`; SameSite=${expected}$`));
      }
    }
  });

  it('survives a change of the secrets that is made in two steps', async () => {
    const secrets = { old: 'o'.repeat(40), new: 'n'.repeat(40) };
    const cookie = (secret: string, accepted: string[]) =>
      new SessionCookie([secret, ...accepted], 'strict', Date.now);
    const claims = {
      subject: person.id,
      walletAddress: null,
      role: null,
      tokenId: null,
      issuedAt: null,
      expiresAt: Date.now() / 1000 + 60,
    };
    const plain = { secure: false };
    const steps = [
      cookie(secrets.old, []),
      cookie(secrets.old, [secrets.new]),
      cookie(secrets.new, [secrets.old]),
      cookie(secrets.new, []),
    ];
    for (const [at, step] of steps.entries()) {
      // While instances are restarted one by one, each step runs beside the one before.
      for (const peer of steps.slice(Math.max(0, at - 1), at + 2))
        expect(peer.read(step.issue(claims, plain), plain), `step ${at}`).to.deep.equal(claims);
    }
    const [first, , , last] = steps;
    expect(() => last?.read(first?.issue(claims, plain), plain)).to.throw(CredentialError);
  });

  it('ends with the token that it came from, to the second', async () => {
    const exp = Math.ceil(Date.now() / 1000) + 60;
    const { value } = await open(mintToken({ sub: person.id, exp }));
    shiftMs = exp * 1000 - 500 - Date.now();
    const client = await follow({ Cookie: `settlewire_session=${value}` });
    await client.untilEnded();
    expect(client.messages.at(-1)?.data['reason']).to.equal('token_expired');
    expect(await outcome({ Cookie: `settlewire_session=${value}` })).to.equal('401 token_expired');
  });

  it('may come from a token whose exp is not a whole second', async () => {
    const { response, cookie } = await open(
      mintToken({ sub: person.id, exp: Math.floor(Date.now() / 1000) + 59.75 }),
    );
    expect(response.status).to.equal(200);
    expect(Number(/Max-Age=(\d+);/.exec(cookie)?.[1])).to.be.within(57, 59);
  });

  it('is no access token, and an access token is no cookie', async () => {
    const { value } = await open();
    expect(await outcome({ Authorization: `Bearer ${value}` })).to.equal('401 unauthenticated');
    expect(await outcome({ Cookie: `settlewire_session=${person.token}` })).to.equal('401 unauthenticated');
    expect(() => jwt.verify(value, JWT_SECRET), 'what another backend would say').to.throw(
      'invalid signature',
    );
  });

  it('is refused when it is tampered with, or signed by others', async () => {
    const { value } = await open();
    const [header, payload, signature] = value.split('.') as [string, string, string];
    const other = Buffer.from(payload, 'base64url')
      .toString()
      .replace(person.id, '00000000-0000-4000-8000-000000000000');
    for (const forged of [
      `${header}.${Buffer.from(other).toString('base64url')}.${signature}`,
      `${header}.${payload}.${signature.slice(0, -2)}`,
      `${header}.${payload}.`,
      `${Buffer.from('{"alg":"none"}').toString('base64url')}.${payload}.`,
      jwt.sign({ sub: person.id, aud: 'settlewire session' }, JWT_SECRET, { expiresIn: 60 }),
      'garbage',
      '%E0%A4%A',
    ]) {
      expect(await outcome({ Cookie: `settlewire_session=${forged}` }), forged).to.equal(
        '401 unauthenticated',
      );
    }
  });

  it('counts for less than a bearer token, even a bad one', async () => {
    const { value } = await open();
    const Cookie = `settlewire_session=${value}`;
    expect(await outcome({ Cookie, Authorization: 'Bearer nonsense' })).to.equal('401 unauthenticated');
    expect(await outcome({ Cookie, Authorization: `Bearer ${person.token}` })).to.equal('ok');
    expect(await outcome({ Cookie, Authorization: 'Basic dTpw' })).to.equal('401 unauthenticated');
    expect(await outcome({ Cookie, Authorization: '' })).to.equal('401 unauthenticated');
  });

  it('without any credential there is no stream, and an empty cookie is none', async () => {
    expect(await outcome({})).to.equal('401 unauthenticated');
    expect(await outcome({ Cookie: 'settlewire_session=' })).to.equal('401 unauthenticated');
    const client = await follow({});
    expect(client.response?.headers['www-authenticate']).to.equal('Bearer');
  });

  it('is opened with a bearer token only, never with a cookie', async () => {
    const { value } = await open();
    expect((await call('POST', { Cookie: `settlewire_session=${value}` })).status).to.equal(401);
    expect((await call('POST', {})).status).to.equal(401);
    expect((await call('POST', { Authorization: 'Bearer x.y.z' })).status).to.equal(401);
  });

  it('is ended by DELETE, whoever asks', async () => {
    const response = await call('DELETE', {});
    expect(response.status).to.equal(204);
    expect(response.headers.get('set-cookie')).to.match(
      /^settlewire_session=; Max-Age=0; Path=\/; HttpOnly; SameSite=Strict$/,
    );
  });

  it('is signed with a secret of its own where one is set', async () => {
    const signing = 'the signing secret of these tests, 48 bytes or so';
    const other = await stage.addService({ SIGNING_SECRET: signing });
    const { value } = await open();
    const client = await stage.connect(
      '/v1/events',
      undefined,
      { Cookie: `settlewire_session=${value}` },
      other,
    );
    expect(client.status).to.equal(401);
  });

  it('is for https alone when the request does not say which host it is for', async () => {
    const answer = await rawHttp(stage.service.url, 'DELETE /v1/session HTTP/1.0\r\n\r\n');
    expect(answer).to.match(/^HTTP\/1\.1 204 /);
    expect(answer).to.match(/\r\nset-cookie: [^\r]*; Secure/i);
  });
});
