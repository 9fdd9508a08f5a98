import { createHmac } from 'node:crypto';
import { expect } from 'chai';
import { Jwks, type JwksOptions } from '../../src/access/jwks.ts';
import {
  CredentialError,
  KeysUnavailableError,
  toSecretKey,
  verifyAccessToken,
} from '../../src/access/token.ts';
import { IssuerKey, JwksEndpoint } from '../support/jwks-endpoint.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

const USER = '11111111-2222-4333-8444-555555555555';
const NOW = 1_800_000_000;
const SECRET = 'a secret beside the keys of the issuer, long enough';
const claims = { sub: USER, iat: NOW, exp: NOW + 60 };

describe('the keys of an issuer', () => {
  const rsa = IssuerKey.rsa('r1');
  const ec = IssuerKey.ec('e1');
  let endpoint: JwksEndpoint;
  let jwks: Jwks;
  let clock: number;
  let failures: unknown[];

  function start(options: Partial<JwksOptions> = {}): Jwks {
    return new Jwks({
      url: endpoint.url,
      cacheMs: 600_000,
      cooldownMs: 10_000,
      timeoutMs: 5000,
      clock: () => clock,
      onFailure: (error) => failures.push(error),
      ...options,
    });
  }

  beforeEach(async () => {
    clock = 0;
    failures = [];
    endpoint = await JwksEndpoint.open(rsa.jwk(), ec.jwk());
    jwks = start();
  });
  afterEach(async () => {
    await jwks.stop();
    await endpoint.close();
  });

  /** `ok`, the code of the refusal, or `unavailable`; anything else that is thrown is a failure. */
  async function outcome(token: string, issuerKeys: Jwks | null = jwks): Promise<string> {
    try {
      await verifyAccessToken(token, {
        secrets: [toSecretKey({ kid: null, secret: SECRET })],
        issuerKeys,
        issuer: null,
        audience: null,
        now: () => NOW * 1000,
      });
      return 'ok';
    } catch (error) {
      if (error instanceof CredentialError) return error.code;
      if (error instanceof KeysUnavailableError) return 'unavailable';
      throw error;
    }
  }

  function hmac(header: object, secret: string | Buffer): string {
    const signed = [header, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
  }

  it('check RS256 and ES256, beside HS256 with our own secrets, with one fetch', async () => {
    expect(await outcome(rsa.sign(claims))).to.equal('ok');
    expect(await outcome(ec.sign(claims))).to.equal('ok');
    expect(await outcome(hmac({ alg: 'HS256' }, SECRET))).to.equal('ok');
    expect(await outcome(rsa.sign({ ...claims, exp: NOW }))).to.equal('token_expired');
    expect(await outcome(rsa.sign({ ...claims, type: 'refresh' }))).to.equal('unauthenticated');
    expect(await outcome(rsa.sign(claims), null), 'without a JWKS').to.equal('unauthenticated');
    expect(endpoint.requests).to.equal(1);
    expect(jwks.size).to.equal(2);
  });

  it('are for nothing but their own algorithm, and no token brings its own', async () => {
    const stranger = IssuerKey.rsa('r1');
    const strangerEc = IssuerKey.ec('e1');
    const forged: Record<string, string> = {
      'an HMAC with the public key in PEM': hmac({ alg: 'HS256', kid: 'r1' }, rsa.pem()),
      'an HMAC with the public key in PEM, no kid': hmac({ alg: 'HS256' }, rsa.pem()),
      'an HMAC with the public key in DER': hmac({ alg: 'HS256' }, rsa.der()),
      'an HMAC with the JWK': hmac({ alg: 'HS256', kid: 'r1' }, JSON.stringify(rsa.jwk())),
      'an HMAC with the public key that says RS256': hmac({ alg: 'RS256', kid: 'r1' }, rsa.pem()),
      'an HMAC with our secret that says RS256': hmac({ alg: 'RS256', kid: 'r1' }, SECRET),
      'alg none': hmac({ alg: 'none', kid: 'r1' }, '').replace(/[^.]+$/, ''),
      'no alg': hmac({ kid: 'r1' }, SECRET),
      'the kid of the other kind of key': rsa.sign(claims, { kid: 'e1' }),
      'the kid of the other kind of key, for ES256': ec.sign(claims, { kid: 'r1' }),
      'RSA with PSS': rsa.sign(claims, { alg: 'PS256' }, { algorithm: 'PS256' }),
      'RSA with SHA-512': rsa.sign(claims, { alg: 'RS512' }, { algorithm: 'RS512' }),
      'a kid that is an array': rsa.sign(claims, { kid: ['r1'] }),
      'a kid from the prototype': rsa.sign(claims, { kid: '__proto__' }),
      'another key under a known kid': stranger.sign(claims),
      'another key that it brings along': stranger.sign(claims, { jwk: stranger.jwk() }),
      'another curve point under a known kid': strangerEc.sign(claims, { jwk: strangerEc.jwk() }),
      'a place where to find its key': stranger.sign(claims, { jku: endpoint.url, x5u: endpoint.url }),
      'a certificate': stranger.sign(claims, { x5c: [stranger.der().toString('base64')] }),
      'what is critical': rsa.sign(claims, { crit: ['b64'], b64: true }),
    };
    for (const [what, token] of Object.entries(forged))
      expect(await outcome(token), what).to.equal('unauthenticated');
    expect(endpoint.requests, 'made-up tokens cause no flood').to.equal(1);
  });

  it('without a kid count where there is but one of their kind', async () => {
    expect(await outcome(rsa.sign(claims, { kid: undefined }))).to.equal('ok');
    endpoint.show(rsa.jwk(), IssuerKey.rsa('r2').jwk());
    clock += 10_000;
    await outcome(ec.sign(claims, { kid: 'new' }));
    expect(await outcome(rsa.sign(claims, { kid: undefined }))).to.equal('unauthenticated');
    const nameless = IssuerKey.rsa();
    endpoint.show(nameless.jwk());
    clock += 10_000;
    expect(await outcome(nameless.sign(claims))).to.equal('ok');
    expect(await outcome(nameless.sign(claims, { kid: 'any' })), 'a kid, a key without').to.equal(
      'unauthenticated',
    );
  });

  it('that are weak, of another curve, for other uses, secret or broken are left out', async () => {
    const good = IssuerKey.ec('good');
    const unfit: Record<string, [IssuerKey, object]> = {
      weak: [IssuerKey.rsa('weak', 1024), {}],
      p384: [IssuerKey.ec('p384', 'P-384'), {}],
      enc: [IssuerKey.rsa('enc'), { use: 'enc' }],
      ps: [IssuerKey.rsa('ps'), { alg: 'PS256' }],
      cut: [IssuerKey.rsa('cut'), { n: undefined }],
      odd: [IssuerKey.rsa('odd'), { kty: 'odd' }],
    };
    const secret = IssuerKey.rsa('secret');
    endpoint.show(
      ...Object.values(unfit).map(([key, more]) => key.jwk(more)),
      { kty: 'oct', kid: 'oct', k: Buffer.from(SECRET).toString('base64url'), alg: 'HS256' },
      secret.privateJwk(),
      good.jwk({ use: 'sig', alg: 'ES256' }),
    );
    expect(await outcome(good.sign(claims))).to.equal('ok');
    expect(jwks.size).to.equal(1);
    for (const [what, [key]] of Object.entries(unfit))
      expect(await outcome(key.sign(claims)), what).to.equal('unauthenticated');
    expect(await outcome(secret.sign(claims))).to.equal('unauthenticated');
    expect(await outcome(hmac({ alg: 'HS256', kid: 'oct' }, SECRET)), 'oct').to.equal('unauthenticated');
  });

  it('are fetched anew for a kid that is not known, at most once a cooldown, however many ask', async () => {
    expect(await outcome(rsa.sign(claims))).to.equal('ok');
    const next = IssuerKey.rsa('r2');
    const ask = (key: IssuerKey) => Promise.all(Array.from({ length: 20 }, () => outcome(key.sign(claims))));
    expect(new Set(await ask(next))).to.deep.equal(new Set(['unauthenticated']));
    expect(endpoint.requests, 'within the cooldown').to.equal(1);
    endpoint.show(next.jwk());
    clock += 10_000;
    // A made-up kid brings the new key in, rather than keeping it out.
    expect(await outcome(IssuerKey.rsa('made up').sign(claims))).to.equal('unauthenticated');
    expect(new Set(await ask(next))).to.deep.equal(new Set(['ok']));
    expect(await outcome(rsa.sign(claims)), 'withdrawn').to.equal('unauthenticated');
    expect(endpoint.requests).to.equal(2);
  });

  it('are fetched once for all who come at once', async () => {
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => outcome(rsa.sign(claims))));
    expect(new Set(outcomes)).to.deep.equal(new Set(['ok']));
    expect(endpoint.requests).to.equal(1);
  });

  it('that have never come leave open whether a token is good', async () => {
    await endpoint.close();
    expect(await outcome(rsa.sign(claims))).to.equal('unavailable');
    expect(failures).to.have.length(1);
    expect(await outcome(rsa.sign(claims)), 'within the cooldown').to.equal('unavailable');
    expect(failures).to.have.length(1);
    expect(await outcome(hmac({ alg: 'HS256' }, SECRET)), 'with a secret of ours').to.equal('ok');
    expect(jwks.ageSeconds).to.be.NaN;
  });

  const bad: Record<string, (endpoint: JwksEndpoint) => void> = {
    'answers 500': (at) => {
      at.answer = (_request, response) => void response.writeHead(500).end('{"keys":[]}');
    },
    'answers with garbage': (at) => {
      at.answer = (_request, response) => void response.end('<html>');
    },
    'answers with JSON of another kind': (at) => {
      at.answer = (_request, response) => void response.end('[1]');
    },
    'answers with keys of another kind': (at) => {
      at.answer = (_request, response) => void response.end('{"keys":"many"}');
    },
    'answers with null': (at) => {
      at.answer = (_request, response) => void response.end('null');
    },
    'answers with no keys': (at) => at.show(),
    'answers with keys that are no use': (at) =>
      at.show({ kty: 'RSA', kid: 'r1', n: 'x', e: 'AQAB' }, null as never),
    'answers with weak keys only': (at) => at.show(IssuerKey.rsa('r1', 1024).jwk()),
    'answers without end': (at) => {
      at.answer = (_request, response) => {
        const more = () => response.writable && response.write('x'.repeat(65_536), more);
        more();
      };
    },
    'sends elsewhere': (at) => {
      at.answer = ({ url }, response) => {
        if (url === '/elsewhere') response.end(JSON.stringify({ keys: [rsa.jwk()] }));
        else response.writeHead(302, { Location: '/elsewhere' }).end();
      };
    },
    'hangs up in the middle': (at) => {
      at.answer = (_request, response) => {
        response.writeHead(200, { 'Content-Length': '1000' });
        response.write('{"keys":[', () => response.destroy());
      };
    },
    'never ends its answer': (at) => {
      at.answer = (_request, response) => void response.write('{"keys":[');
    },
    'never answers': (at) => {
      at.answer = () => {};
    },
  };
  for (const [what, break_] of Object.entries(bad)) {
    it(`stay while the endpoint ${what}`, async () => {
      jwks = start({ timeoutMs: 200 });
      expect(await outcome(rsa.sign(claims))).to.equal('ok');
      break_(endpoint);
      clock += 10_000;
      expect(await outcome(IssuerKey.ec('new').sign(claims)), 'nobody can tell').to.equal('unavailable');
      expect(failures).to.have.length(1);
      expect(await outcome(rsa.sign(claims))).to.equal('ok');
      expect(await outcome(ec.sign(claims))).to.equal('ok');
      expect(jwks.ageSeconds).to.equal(10);
      const next = IssuerKey.ec('new');
      endpoint.show(next.jwk());
      clock += 10_000;
      expect(await outcome(next.sign(claims)), 'once it is back').to.equal('ok');
      expect(jwks.ageSeconds).to.equal(0);
    });
  }

  it('are fetched at the start and from time to time, so that a withdrawn key stops counting', async () => {
    jwks = start({ cacheMs: 20 });
    jwks.start();
    jwks.start();
    await waitFor(() => jwks.size === 2, { what: 'the first set' });
    endpoint.show(ec.jwk());
    await waitFor(() => jwks.size === 1, { what: 'the second set' });
    expect(await outcome(rsa.sign(claims))).to.equal('unauthenticated');
    await jwks.stop();
    const { requests } = endpoint;
    await jwks.stop();
    expect(await outcome(ec.sign(claims))).to.equal('ok');
    expect(endpoint.requests).to.equal(requests);
  });

  it('are not waited for when the service stops', async () => {
    let asked = false;
    endpoint.answer = () => {
      asked = true;
    };
    jwks = start({ timeoutMs: 60_000 });
    jwks.start();
    await waitFor(() => asked, { what: 'the request' });
    await jwks.stop();
    expect(failures).to.deep.equal([]);
  });

  it('are asked for again soon after a failure', async () => {
    endpoint.answer = (_request, response) => void response.writeHead(503).end();
    jwks = start({ cooldownMs: 20 });
    jwks.start();
    await waitFor(() => failures.length > 1, { what: 'a second failure' });
    endpoint.show(rsa.jwk());
    await waitFor(() => jwks.size === 1, { what: 'the keys' });
  });
});

describe('a service with the keys of an issuer', () => {
  const key = IssuerKey.ec('e1');
  let endpoint: JwksEndpoint;
  let stage: Stage;
  let person: Person;
  let token: string;

  before(async () => {
    endpoint = await JwksEndpoint.open();
    endpoint.answer = (_request, response) => void response.writeHead(503).end();
    stage = await Stage.open({
      JWKS_URL: endpoint.url,
      JWKS_COOLDOWN_SECONDS: '0.1',
      JWKS_CACHE_SECONDS: '0.1',
      SIGNING_SECRET: 'the signing secret of these tests, long enough',
    });
    person = await makePerson(stage.pool, 1);
    token = key.sign({ sub: person.id, exp: Math.floor(Date.now() / 1000) + 60 });
  });
  after(async () => {
    await stage.close();
    await endpoint.close();
  });

  const metric = async (name: string): Promise<string | undefined> => {
    const text = await (await fetch(`${stage.service.adminUrl}/metrics`)).text();
    return new RegExp(`^${name} (.*)$`, 'm').exec(text)?.[1];
  };
  const Authorization = () => `Bearer ${token}`;

  it('tells whoever comes with a key that it cannot have to come again, and lets others in', async () => {
    const client = await stage.connect('/v1/events', token);
    await client.untilEnded();
    expect(client.status).to.equal(200);
    expect(client.messages.map(({ type, data }) => `${type} ${data['reason']}`)).to.deep.equal([
      'disconnect unavailable',
    ]);
    const answer = await stage.send('POST', '/v1/session', { Authorization: Authorization() });
    expect([answer.status, JSON.parse(answer.body).code]).to.deep.equal([503, 'unavailable']);
    expect(answer.headers['retry-after']).to.match(/^\d+$/);
    await (await stage.connect('/v1/events', person.token)).caughtUp();
    expect(await metric('settlewire_jwks_keys')).to.equal('0');
    expect(await metric('settlewire_jwks_age_seconds')).to.equal('Nan');
  });

  it('follows the issuer, and signs cookies with a secret of its own', async () => {
    endpoint.show(key.jwk());
    await waitFor(async () => (await metric('settlewire_jwks_keys')) === '1', { what: 'the key' });
    expect(Number(await metric('settlewire_jwks_age_seconds'))).to.be.within(0, 60);
    await (await stage.connect('/v1/events', token)).caughtUp();
    const { headers } = await stage.send('POST', '/v1/session', { Authorization: Authorization() });
    const Cookie = String(headers['set-cookie']).split(';')[0] ?? '';
    await (await stage.connect('/v1/events', undefined, { Cookie })).caughtUp();
    endpoint.show(IssuerKey.ec('e2').jwk());
    await waitFor(async () => (await stage.connect('/v1/events', token)).status === 401, {
      what: 'the key to be withdrawn',
    });
  });
});
