import { createHmac, createSecretKey, hkdfSync } from 'node:crypto';
import { expect } from 'chai';
import fc from 'fast-check';
import jwt from 'jsonwebtoken';
import { OwnTokens, type Purpose } from '../../src/access/own-token.ts';
import { ResumeTokens } from '../../src/access/resume-token.ts';
import { SessionCookie } from '../../src/access/session-cookie.ts';
import { Tickets } from '../../src/access/ticket.ts';
import { type Claims, CredentialError, toSecretKey, verifyAccessToken } from '../../src/access/token.ts';
import { Stage } from '../support/stage.ts';
import { JWT_SECRET } from '../support/tokens.ts';
import { makePerson } from '../support/world.ts';

const NOW = 1_800_000_000;
const now = () => NOW * 1000;
const SECRETS = ['the secret that these tests sign with, 48 bytes or so'] as const;

const claims: Claims = {
  subject: '11111111-2222-4333-8444-555555555555',
  walletAddress: '0xabc',
  role: 'USER',
  tokenId: 'one',
  issuedAt: NOW - 10,
  expiresAt: NOW + 600,
};
const resume = {
  claims,
  actor: { userId: claims.subject, walletAddress: '0xabc', role: 'USER' },
  seesAll: false,
  own: ['wallet:0xabc'],
  credentialTopics: ['access:everybody'],
  epoch: 'e',
  topics: 'feed',
  asOf: 5,
};

const cookie = new SessionCookie([...SECRETS], 'strict', now);
const tickets = new Tickets([...SECRETS], 60, now);
const resumeTokens = new ResumeTokens([...SECRETS], 600, now);

const plain = { secure: false };
const cookieValue = () => /^settlewire_session=([^;]*)/.exec(cookie.issue(claims, plain))?.[1] ?? '';

interface Kind {
  readonly token: () => string;
  readonly read: (token: string) => unknown;
  readonly content: unknown;
}
const kinds: Record<Purpose, Kind> = {
  session: {
    token: cookieValue,
    read: (token) => cookie.read(`settlewire_session=${encodeURIComponent(token)}`, plain),
    content: claims,
  },
  ticket: {
    token: () => tickets.issue({ claims, topics: ['escrow:a'] }).token,
    read: (token) => tickets.read(token),
    content: { claims, topics: ['escrow:a'] },
  },
  resume: {
    token: () => resumeTokens.issue(resume).token,
    read: (token) => resumeTokens.read(token),
    content: resume,
  },
};
const purposes = Object.keys(kinds) as Purpose[];

/** What reading makes of it: the content, or the code of the refusal. Anything else that is thrown is a failure. */
function outcome(purpose: Purpose, token: string): unknown {
  try {
    return kinds[purpose].read(token);
  } catch (error) {
    if (error instanceof CredentialError) return error.code;
    throw error;
  }
}

/** Signs anything as we would; the key is the one that whoever has the secret could derive. */
function forge(purpose: Purpose, header: unknown, payload: unknown): string {
  const key = Buffer.from(hkdfSync('sha256', SECRETS[0], '', `settlewire ${purpose}`, 32));
  const signed = [header, payload]
    .map((part) => Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${signed}.${createHmac('sha256', key).update(signed).digest('base64url')}`;
}

describe('tokens of our own', () => {
  for (const purpose of purposes) {
    const { token, content } = kinds[purpose];

    it(`${purpose}: says what it was given`, () => {
      expect(outcome(purpose, token())).to.deep.equal(content);
    });

    it(`${purpose}: is none of the others`, () => {
      for (const other of purposes)
        if (other !== purpose) expect(outcome(other, token()), other).to.equal('unauthenticated');
    });

    it(`${purpose}: is no access token, of ours or of another backend`, async () => {
      const secrets = [toSecretKey({ kid: null, secret: SECRETS[0] })];
      const rules = { secrets, issuerKeys: null, issuer: null, audience: null, now };
      const refusal = await verifyAccessToken(token(), rules).catch((error: unknown) => error);
      expect(refusal).to.be.instanceOf(CredentialError);
      expect(() => jwt.verify(token(), SECRETS[0], { ignoreExpiration: true })).to.throw('invalid signature');
    });

    it(`${purpose}: an access token is none, though it is of the secret that the key is derived from`, () => {
      const access = { sub: claims.subject, claims, resume, topics: null, exp: NOW + 60 };
      for (const audience of ['settlewire', `settlewire ${purpose}`])
        expect(outcome(purpose, jwt.sign({ ...access, aud: audience }, SECRETS[0]))).to.equal(
          'unauthenticated',
        );
    });

    it(`${purpose}: is refused, and nothing else happens, when it is changed or cut`, () => {
      const good = token();
      fc.assert(
        fc.property(
          fc.nat(good.length - 1),
          fc.constantFrom(...'AZaz09-_.=+/ \u00e4'),
          fc.boolean(),
          (at, by, cut) => {
            const changed = cut ? good.slice(0, at) : good.slice(0, at) + by + good.slice(at + 1);
            fc.pre(changed !== '' && changed !== good);
            // The last character of base64 carries bits that mean nothing.
            expect(outcome(purpose, changed)).to.satisfy(
              (read: unknown) =>
                read === 'unauthenticated' || (at === good.length - 1 && typeof read === 'object'),
            );
          },
        ),
      );
    });

    it(`${purpose}: is refused, and nothing else happens, whatever is in its place`, () => {
      fc.assert(
        fc.property(
          fc.oneof(
            fc.string({ unit: 'binary', minLength: 1 }),
            fc.stringMatching(/^[\w-]{1,40}\.[\w-]{1,40}\.[\w-]{1,50}$/),
          ),
          (text) => {
            expect(outcome(purpose, text)).to.equal('unauthenticated');
          },
        ),
      );
    });

    it(`${purpose}: is refused or understood, whatever it says, even if we signed it`, () => {
      const anything = fc.oneof(fc.jsonValue(), fc.constant(undefined));
      const said = fc.record(
        {
          claims: fc.oneof(
            anything,
            fc.record(
              {
                subject: fc.oneof(anything, fc.constant(claims.subject)),
                walletAddress: anything,
                role: anything,
                tokenId: anything,
                issuedAt: anything,
                expiresAt: fc.oneof(anything, fc.constant(NOW + 60)),
              },
              { requiredKeys: [] },
            ),
          ),
          topics: anything,
          resume: fc.oneof(
            anything,
            fc.record({
              actor: anything,
              credentialTopics: anything,
              epoch: anything,
              topics: anything,
              asOf: anything,
            }),
          ),
          exp: fc.oneof(anything, fc.constant(NOW + 60)),
          nbf: anything,
        },
        { requiredKeys: [] },
      );
      fc.assert(
        fc.property(said, (payload) => {
          const token = forge(purpose, { alg: 'HS256' }, { ...payload, aud: `settlewire ${purpose}` });
          const read = outcome(purpose, token);
          if (typeof read === 'string') expect(read).to.be.oneOf(['unauthenticated', 'token_expired']);
          else
            expect(Object.assign({ claims: read }, read).claims)
              .to.have.property('expiresAt')
              .above(NOW);
        }),
      );
    });

    const exp = NOW + 60;
    const aud = `settlewire ${purpose}`;
    const good = { claims, resume, topics: null, exp, aud };
    const signed: readonly (readonly [string, unknown, unknown, string])[] = [
      ['of alg none', { alg: 'none' }, good, 'unauthenticated'],
      ['of HS512', { alg: 'HS512' }, good, 'unauthenticated'],
      ['for nobody', { alg: 'HS256' }, { ...good, aud: undefined }, 'unauthenticated'],
      ['for another purpose', { alg: 'HS256' }, { ...good, aud: 'settlewire' }, 'unauthenticated'],
      ['without exp', { alg: 'HS256' }, { ...good, exp: undefined }, 'token_expired'],
      ['with exp as text', { alg: 'HS256' }, { ...good, exp: String(exp) }, 'token_expired'],
      ['that ends now', { alg: 'HS256' }, { ...good, exp: NOW }, 'token_expired'],
      [
        'of a credential that ends now',
        { alg: 'HS256' },
        { ...good, claims: { ...claims, expiresAt: NOW } },
        'token_expired',
      ],
      [
        'of a credential without an end',
        { alg: 'HS256' },
        { ...good, claims: { ...claims, expiresAt: null } },
        'unauthenticated',
      ],
      ['of nobody', { alg: 'HS256' }, { ...good, claims: null }, 'unauthenticated'],
    ];
    for (const [what, header, payload, code] of signed) {
      it(`${purpose}: one ${what} is refused, even if we signed it`, () => {
        expect(outcome(purpose, forge(purpose, { alg: 'HS256' }, good))).to.be.an('object');
        expect(outcome(purpose, forge(purpose, header, payload))).to.equal(code);
      });
    }
  }

  it('say what they are for, or are refused', () => {
    const aud = (purpose: Purpose) => ({ claims, exp: NOW + 60, aud: `settlewire ${purpose}` });
    for (const topics of [undefined, 5, 'escrow:a', [5], {}])
      expect(outcome('ticket', forge('ticket', { alg: 'HS256' }, { ...aud('ticket'), topics }))).to.equal(
        'unauthenticated',
      );
    for (const [key, value] of Object.entries({
      actor: 'me',
      seesAll: 1,
      own: 'wallet:0xabc',
      credentialTopics: 'access:everybody',
      epoch: null,
      topics: [],
      asOf: '5',
    }))
      expect(
        outcome(
          'resume',
          forge('resume', { alg: 'HS256' }, { ...aud('resume'), resume: { ...resume, [key]: value } }),
        ),
        key,
      ).to.equal('unauthenticated');
    expect(outcome('resume', forge('resume', { alg: 'HS256' }, aud('resume')))).to.equal('unauthenticated');
  });

  it('never outlive the credential that they came from', () => {
    const own = new OwnTokens('ticket', [...SECRETS], now);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e6 }), fc.integer({ min: 1, max: 1e6 }), (lifetime, rest) => {
        const { expiresAt } = own.issue({ ...claims, expiresAt: NOW + rest }, lifetime);
        expect(expiresAt).to.equal(NOW + Math.min(lifetime, rest));
      }),
    );
  });

  it('are signed with keys that tell nothing of each other or of the secret', () => {
    const keys = purposes.map((purpose) =>
      Buffer.from(hkdfSync('sha256', SECRETS[0], '', `settlewire ${purpose}`, 32)).toString('hex'),
    );
    expect(new Set(keys)).to.have.length(purposes.length);
    for (const purpose of purposes) {
      const key = createSecretKey(
        Buffer.from(hkdfSync('sha256', SECRETS[0], '', `settlewire ${purpose}`, 32)),
      );
      expect(() => jwt.verify(kinds[purpose].token(), key, { clockTimestamp: NOW })).not.to.throw();
    }
  });
});

describe('each credential in each place', () => {
  let stage: Stage;
  const credentials: Record<string, string> = {};

  before(async () => {
    stage = await Stage.open();
    const person = await makePerson(stage.pool, 1);
    await stage.settled();
    const Authorization = `Bearer ${person.token}`;
    const cookie = String((await stage.send('POST', '/v1/session', { Authorization })).headers['set-cookie']);
    const client = await stage.connect('/v1/events', person.token);
    credentials['access token'] = person.token;
    credentials['cookie'] = /=([^;]*)/.exec(cookie)?.[1] ?? '';
    credentials['ticket'] = JSON.parse(
      (await stage.send('POST', '/v1/tickets', { Authorization })).body,
    ).ticket;
    credentials['resume token'] = String((await client.message('session')).data['resumeToken']);
    client.close();
    for (const value of Object.values(credentials)) expect(value.split('.')).to.have.length(3);
  });
  after(() => stage.close());

  const places: Record<string, (value: string) => [string, Record<string, string>]> = {
    'access token': (value) => ['', { Authorization: `Bearer ${value}` }],
    cookie: (value) => ['', { Cookie: `settlewire_session=${value}` }],
    ticket: (value) => [`ticket=${value}`, {}],
    'resume token': (value) => [`resume=${value}`, {}],
  };
  for (const [place, put] of Object.entries(places)) {
    for (const path of ['/v1/events', '/v1/snapshot', '/v1/cursor']) {
      it(`in place of ${/^[aeiou]/.test(place) ? 'an' : 'a'} ${place}, at ${path}`, async () => {
        for (const [kind, value] of Object.entries(credentials)) {
          const [query, headers] = put(value);
          const client = await stage.connect(`${path}?${query}`, undefined, headers);
          const good = kind === place && (query === '' || path === '/v1/events');
          expect(client.status, kind).to.equal(good ? 200 : 401);
          client.close();
        }
      });
    }
    it(`a bearer’s rights are those of ${place === 'access token' ? 'it' : 'no'} ${place}`, async () => {
      for (const path of ['/v1/session', '/v1/tickets']) {
        const [query, headers] = put(credentials[place] ?? '');
        const answer = await stage.send('POST', `${path}?${query}`, headers);
        expect(answer.status, path).to.equal(place === 'access token' ? 200 : 401);
      }
    });
  }

  it('another backend with the same secret takes the access token and nothing else', () => {
    for (const [kind, value] of Object.entries(credentials)) {
      const check = () => jwt.verify(value, JWT_SECRET);
      if (kind === 'access token') expect(check).not.to.throw();
      else expect(check, kind).to.throw('invalid signature');
    }
  });
});
