import { createHmac, generateKeyPairSync } from 'node:crypto';
import { expect } from 'chai';
import fc from 'fast-check';
import jwt from 'jsonwebtoken';
import {
  type Claims,
  CredentialError,
  type TokenRules,
  toSecretKey,
  verifyAccessToken,
} from '../../src/access/token.ts';

const SECRET = 'the first secret of these tests, long enough to be one';
const OTHER = 'the second secret of these tests, long enough as well';
const NOW = 1_800_000_000;

function rules(changes: Partial<TokenRules> = {}): TokenRules {
  return {
    secrets: [toSecretKey({ kid: null, secret: SECRET })],
    issuerKeys: null,
    issuer: null,
    audience: null,
    now: () => NOW * 1000,
    ...changes,
  };
}

const USER = '11111111-2222-4333-8444-555555555555';
const claims = { sub: USER, iat: NOW, exp: NOW + 60 };

function sign(changes: object = {}, secret = SECRET, options: jwt.SignOptions = {}): string {
  return jwt.sign({ ...claims, ...changes }, secret, { algorithm: 'HS256', ...options });
}

/** A token of any header and payload, signed with the first secret. */
function forge(header: unknown, payload: unknown, secret: string | Buffer = SECRET): string {
  const part = (value: unknown) =>
    Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
  const signed = `${part(header)}.${part(payload)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** `ok` or the code of the refusal; anything else that is thrown is a failure. */
async function outcome(token: string, changes: Partial<TokenRules> = {}): Promise<string> {
  try {
    await verifyAccessToken(token, rules(changes));
    return 'ok';
  } catch (error) {
    if (error instanceof CredentialError) return error.code;
    throw error;
  }
}

describe('an access token', () => {
  it('says who, in which role, with which wallet, and until when', async () => {
    const expected: Claims = {
      subject: USER,
      walletAddress: '0xabc',
      role: 'ADMIN',
      tokenId: null,
      issuedAt: NOW,
      expiresAt: NOW + 60,
    };
    expect(await verifyAccessToken(sign({ walletAddress: '0xabc', role: 'ADMIN' }), rules())).to.deep.equal(
      expected,
    );
    for (const walletAddress of [1, '', 'a\0b'])
      expect(await verifyAccessToken(sign({ walletAddress, role: ['ADMIN'] }), rules())).to.deep.equal({
        ...expected,
        walletAddress: null,
        role: null,
      });
  });

  it('has no role of more than 64 characters', async () => {
    const roleOf = async (role: string) => (await verifyAccessToken(sign({ role }), rules())).role;
    expect(await roleOf('R'.repeat(64))).to.have.length(64);
    expect(await roleOf('R'.repeat(65))).to.equal(null);
  });

  it('says by what it can be revoked', async () => {
    const payload = { sub: USER, exp: NOW + 60 };
    const of = async (more: object) => {
      const { tokenId, issuedAt } = await verifyAccessToken(
        forge({ alg: 'HS256' }, { ...payload, ...more }),
        rules(),
      );
      return [tokenId, issuedAt];
    };
    expect(await of({})).to.deep.equal([null, null]);
    expect(await of({ jti: 'ä token/1', iat: NOW - 0.5 })).to.deep.equal(['ä token/1', NOW - 0.5]);
    expect(await of({ jti: null, iat: 'yesterday' })).to.deep.equal([null, null]);
    expect(await of({ jti: 'x'.repeat(256), iat: 0 })).to.deep.equal(['x'.repeat(256), 0]);
  });

  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const publicPem = rsa.publicKey.export({ type: 'spki', format: 'pem' });
  const cases: readonly (readonly [string, string, string, Partial<TokenRules>?])[] = [
    ['a good one', sign(), 'ok'],
    ['with type access', sign({ type: 'access' }), 'ok'],
    ['with type refresh', sign({ type: 'refresh' }), 'unauthenticated'],
    ['with a null type', sign({ type: null }), 'unauthenticated'],
    ['of another secret', sign({}, OTHER), 'unauthenticated'],
    ['of alg none', forge({ alg: 'none', typ: 'JWT' }, claims).replace(/[^.]+$/, ''), 'unauthenticated'],
    ['of alg none with a signature', forge({ alg: 'none', typ: 'JWT' }, claims), 'unauthenticated'],
    ['of alg None', forge({ alg: 'None' }, claims), 'unauthenticated'],
    ['without alg', forge({ typ: 'JWT' }, claims), 'unauthenticated'],
    ['of HS512', sign({}, SECRET, { algorithm: 'HS512' }), 'unauthenticated'],
    ['of RS256', jwt.sign(claims, rsa.privateKey, { algorithm: 'RS256' }), 'unauthenticated'],
    ['that says RS256 and is an HMAC', forge({ alg: 'RS256', typ: 'JWT' }, claims), 'unauthenticated'],
    [
      'that is an HMAC with a public key',
      forge({ alg: 'HS256', typ: 'JWT' }, claims, publicPem),
      'unauthenticated',
      { secrets: [toSecretKey({ kid: null, secret: SECRET })] },
    ],
    ['without exp', forge({ alg: 'HS256' }, { sub: USER }), 'unauthenticated'],
    ['with exp as text', forge({ alg: 'HS256' }, { sub: USER, exp: String(NOW + 60) }), 'unauthenticated'],
    [
      'with an exp that is no date',
      forge({ alg: 'HS256' }, `{"sub":"${USER}","exp":1e999}`),
      'unauthenticated',
    ],
    ['with an exp beyond all dates', sign({ exp: 1e14 }), 'unauthenticated'],
    ['that expires in a second', sign({ exp: NOW + 1 }), 'ok'],
    ['that expires now', sign({ exp: NOW }), 'token_expired'],
    ['that expired a second ago: there is no tolerance', sign({ exp: NOW - 1 }), 'token_expired'],
    ['that expired long ago, of another secret', sign({ exp: NOW - 1e6 }, OTHER), 'unauthenticated'],
    ['that is valid in 5 s', sign({ nbf: NOW + 5 }), 'ok'],
    ['that is valid in 6 s', sign({ nbf: NOW + 6 }), 'unauthenticated'],
    ['that was issued in 5 s', sign({ iat: NOW + 5 }), 'ok'],
    ['that was issued in 6 s', sign({ iat: NOW + 6 }), 'unauthenticated'],
    ['without sub', forge({ alg: 'HS256' }, { exp: NOW + 60 }), 'unauthenticated'],
    ['with an empty sub', sign({ sub: '' }), 'unauthenticated'],
    ['with a number as sub', forge({ alg: 'HS256' }, { sub: 5, exp: NOW + 60 }), 'unauthenticated'],
    ['with a wallet as sub', sign({ sub: '0x00' }), 'ok'],
    ['with a sub that is neither', sign({ sub: 'me@example.com' }), 'unauthenticated'],
    ['with a NUL in its sub', sign({ sub: 'a\0b' }), 'unauthenticated'],
    ['with a NUL in its wallet', sign({ walletAddress: 'a\0b' }), 'ok'],
    ['with a jti', sign({ jti: 'one' }), 'ok'],
    ['with an empty jti', sign({ jti: '' }), 'unauthenticated'],
    ['with a jti that is too long', sign({ jti: 'x'.repeat(257) }), 'unauthenticated'],
    ['with a NUL in its jti', sign({ jti: 'a\0b' }), 'unauthenticated'],
    [
      'with half a character as its jti',
      forge({ alg: 'HS256' }, `{"sub":"${USER}","exp":${NOW + 60},"jti":"\\ud800"}`),
      'unauthenticated',
    ],
    ['with a number as its jti', forge({ alg: 'HS256' }, { ...claims, jti: 5 }), 'unauthenticated'],
    ['that asks for more', forge({ alg: 'HS256', crit: ['exp'] }, claims), 'unauthenticated'],
    ['with a null kid', forge({ alg: 'HS256', kid: null }, claims), 'unauthenticated'],
    ['whose payload is text', forge({ alg: 'HS256' }, '"text"'), 'unauthenticated'],
    ['whose payload is an array', forge({ alg: 'HS256' }, []), 'unauthenticated'],
    ['whose payload is null', forge({ alg: 'HS256' }, 'null'), 'unauthenticated'],
    ['whose payload is no JSON', forge({ alg: 'HS256', typ: 'JWT' }, '{'), 'unauthenticated'],
    ['whose header is no JSON', forge('{', claims), 'unauthenticated'],
    ['whose header is null', forge('null', claims), 'unauthenticated'],
    ['of nothing', '..', 'unauthenticated'],
    ['of the right issuer', sign({ iss: 'us' }), 'ok', { issuer: 'us' }],
    ['of a wrong issuer', sign({ iss: 'them' }), 'unauthenticated', { issuer: 'us' }],
    ['of no issuer where one is wanted', sign(), 'unauthenticated', { issuer: 'us' }],
    ['for the right audience', sign({ aud: ['x', 'settlewire'] }), 'ok', { audience: 'settlewire' }],
    ['for a wrong audience', sign({ aud: 'x' }), 'unauthenticated', { audience: 'settlewire' }],
    ['for no audience where one is wanted', sign(), 'unauthenticated', { audience: 'settlewire' }],
  ];
  for (const [what, token, expected, changes] of cases) {
    it(`${what}: ${expected}`, async () => {
      expect(await outcome(token, changes)).to.equal(expected);
    });
  }

  it('is checked with the key that its kid names, and with no other', async () => {
    const two = {
      secrets: [toSecretKey({ kid: 'old', secret: OTHER }), toSecretKey({ kid: 'new', secret: SECRET })],
    };
    expect(await outcome(sign({}, SECRET, { keyid: 'new' }), two)).to.equal('ok');
    expect(await outcome(sign({}, OTHER, { keyid: 'old' }), two)).to.equal('ok');
    expect(await outcome(sign({}, OTHER, { keyid: 'new' }), two)).to.equal('unauthenticated');
    expect(await outcome(sign({}, SECRET, { keyid: 'newer' }), two)).to.equal('unauthenticated');
    expect(await outcome(sign(), two), 'no kid, several keys').to.equal('unauthenticated');
    expect(await outcome(forge({ alg: 'HS256', kid: ['new'] }, claims), two)).to.equal('unauthenticated');
    expect(await outcome(forge({ alg: 'HS256', kid: '__proto__' }, claims), two)).to.equal('unauthenticated');
    const one = { secrets: [toSecretKey({ kid: 'only', secret: SECRET })] };
    expect(await outcome(sign(), one), 'no kid, one key').to.equal('ok');
    expect(await outcome(sign({}, SECRET, { keyid: 'another' }), one)).to.equal('unauthenticated');
    expect(await outcome(sign({}, SECRET, { keyid: 'any' })), 'a kid, one key without').to.equal(
      'unauthenticated',
    );
  });

  it('is refused, and nothing else happens, whatever it is made of', async () => {
    const part = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.json(),
      fc.constant('{"alg":"HS256","typ":"JWT"}'),
    );
    await fc.assert(
      fc.asyncProperty(fc.tuple(part, part), fc.boolean(), async ([header, payload], signed) => {
        const token = forge(header, payload, signed ? SECRET : OTHER);
        expect(await outcome(token)).to.be.oneOf(['unauthenticated', 'token_expired']);
      }),
    );
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary' }), async (text) => {
        expect(await outcome(text)).to.equal('unauthenticated');
      }),
    );
  });

  it('is refused when a single character of it is changed', async () => {
    const token = sign();
    await fc.assert(
      fc.asyncProperty(fc.nat(token.length - 1), fc.constantFrom(...'AZaz09-_.'), async (at, character) => {
        fc.pre(token[at] !== character);
        const changed = token.slice(0, at) + character + token.slice(at + 1);
        // The last character of base64 carries bits that mean nothing.
        fc.pre(
          !Buffer.from(changed.split('.')[2] ?? '', 'base64url').equals(
            Buffer.from(token.split('.')[2] ?? '', 'base64url'),
          ) || at < token.lastIndexOf('.'),
        );
        expect(await outcome(changed)).not.to.equal('ok');
      }),
    );
  });
});
