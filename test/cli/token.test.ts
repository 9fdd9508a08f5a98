import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import jwt from 'jsonwebtoken';
import { mintToken } from '../../src/cli/token.ts';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { JWT_SECRET } from '../support/tokens.ts';
import { makePerson, makeStream, type Person } from '../support/world.ts';

const LOCAL = 'postgres://settlewire@127.0.0.1/settlewire';
const SUB = '0195f7a0-0000-7000-8000-000000000001';

/** What the command prints, on one line. */
function mint(args: readonly string[], environment: Record<string, string> = {}): string {
  const printed = mintToken(args, { DATABASE_URL: LOCAL, JWT_SECRET, ...environment });
  expect(printed).to.match(/^[^\n]+\n$/);
  return printed.trimEnd();
}

describe('settlewire token', () => {
  let dataDir: string;

  before(() => {
    dataDir = mkdtempSync(join(tmpdir(), 'settlewire-token-'));
  });

  after(() => rmSync(dataDir, { recursive: true }));

  describe('with a running service', () => {
    let database: TestDatabase;
    let service: Service;
    let ana: Person;
    let stream: string;

    before(async () => {
      database = await createTestDatabase();
      service = await startService(database.url, { JWT_ISSUER: 'https://auth.example', JWT_AUDIENCE: 'us' });
      ana = await makePerson(database.pool, 1);
      stream = await makeStream(database.pool, ana, await makePerson(database.pool, 2));
    });

    after(async () => {
      await service.stop();
      await database.drop();
    });

    async function ask(args: readonly string[], environment: Record<string, string> = {}): Promise<number> {
      const token = mint(args, {
        DATABASE_URL: database.url,
        JWT_ISSUER: 'https://auth.example',
        JWT_AUDIENCE: 'us',
        ...environment,
      });
      const response = await fetch(`${service.url}/v1/snapshot?topic=stream:${stream}`, {
        headers: { Authorization: `Bearer ${token}` },
      });
      await response.arrayBuffer();
      return response.status;
    }

    it('its token is that of the user, of the wallet, of the role; of nobody else', async () => {
      expect(await ask(['--sub', ana.id])).to.equal(200);
      expect(await ask(['--sub', ana.wallet.toUpperCase().replace('0X', '0x')])).to.equal(200);
      expect(await ask(['--sub', SUB]), 'a stranger').to.equal(403);
      expect(await ask(['--sub', SUB, '--role', 'ADMIN']), 'an administrator').to.equal(200);
    });

    it('names the issuer and the audience that are set, and no others are taken', async () => {
      expect(await ask(['--sub', ana.id], { JWT_ISSUER: 'https://other.example' })).to.equal(401);
      expect(await ask(['--sub', ana.id], { JWT_AUDIENCE: '' })).to.equal(401);
    });
  });

  it('says in JSON what it made: subject, wallet, role, a jti to revoke it by, key and end', () => {
    const args = ['--sub', SUB, '--wallet', '0xab', '--role', 'SUPER_ADMIN', '--ttl', '15m', '--json'];
    const before = Math.floor(Date.now() / 1000);
    const { token, jti, expiresAt, ...rest } = JSON.parse(mint(args));
    expect(rest).to.deep.equal({ sub: SUB, walletAddress: '0xab', role: 'SUPER_ADMIN', kid: null });
    const claims = jwt.verify(token, JWT_SECRET) as jwt.JwtPayload;
    expect(claims).to.include({ sub: SUB, walletAddress: '0xab', role: 'SUPER_ADMIN', type: 'access', jti });
    expect(jti).to.match(/^[0-9a-f-]{36}$/);
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).to.equal(900);
    expect(claims.iat).to.be.at.least(before);
    expect(Date.parse(expiresAt)).to.equal((claims.exp ?? 0) * 1000);
    expect(JSON.parse(mint(args)).jti, 'the next one').not.to.equal(jti);
  });

  it('is good for an hour unless told otherwise', () => {
    const spans = { '': 3600, '90': 90, '90s': 90, '12h': 43_200, '30d': 2_592_000 };
    for (const [span, seconds] of Object.entries(spans)) {
      const { exp = 0, iat = 0 } = jwt.decode(
        mint(['--sub', SUB, ...(span ? ['--ttl', span] : [])]),
      ) as jwt.JwtPayload;
      expect(exp - iat).to.equal(seconds);
    }
  });

  it('signs with the key that --kid names, else with JWT_SECRET, else with the first', () => {
    const other = 'o'.repeat(32);
    const JWT_SECRETS = `first=${'f'.repeat(32)},other=${other}`;
    const kid = (args: string[], secret: string) =>
      jwt.decode(mint(['--sub', SUB, ...args], { JWT_SECRETS, JWT_SECRET: secret }), { complete: true })
        ?.header.kid;
    expect(kid([], JWT_SECRET)).to.equal(undefined);
    expect(kid([], '')).to.equal('first');
    expect(kid(['--kid', 'other'], JWT_SECRET)).to.equal('other');
    expect(jwt.verify(mint(['--sub', SUB, '--kid', 'other'], { JWT_SECRETS }), other)).to.include({
      sub: SUB,
    });
    expect(() => kid(['--kid', 'third'], JWT_SECRET)).to.throw('--kid: JWT_SECRETS has no key "third"');
  });

  describe("refuses what looks like production's key, unless forced", () => {
    const cases: Record<string, Record<string, string>> = {
      'NODE_ENV is production': { NODE_ENV: 'production' },
      'DATABASE_URL names db.example': { DATABASE_URL: 'postgres://a:pass@db.example:5432/b' },
      'DATABASE_URL names 10.0.0.7': { DATABASE_URL: 'postgres://a:pass@10.0.0.7/b' },
      'DATABASE_URL names 127.0.0.1.example': { DATABASE_URL: 'postgres://a:pass@127.0.0.1.example/b' },
      'DATABASE_URL names away': { DATABASE_URL: 'postgres://a:pass@localhost/b?host=away' },
      'LISTEN_DATABASE_URL names db.example': { LISTEN_DATABASE_URL: 'postgres://a:pass@db.example/b' },
    };
    for (const [reason, environment] of Object.entries(cases)) {
      it(reason, () => {
        const message = `refused: ${reason}, so the key looks like production's; --force signs all the same`;
        expect(() => mint(['--sub', SUB], environment)).to.throw(message);
        expect(jwt.verify(mint(['--sub', SUB, '--force'], environment), JWT_SECRET)).to.include({ sub: SUB });
      });
    }

    it("a database on this machine is nobody's production", () => {
      for (const host of ['localhost', '127.0.0.1', '127.8.8.8', '[::1]', '%2Fvar%2Frun%2Fpostgresql'])
        mint(['--sub', SUB], { DATABASE_URL: `postgres://a@${host}/b`, NODE_ENV: 'test' });
      mint(['--sub', SUB], { DATABASE_URL: 'postgres:///b?host=/var/run/postgresql' });
    });
  });

  it("beside a serve with a Postgres of its own: that one's key, and whom its link signs in", () => {
    const environment = { DATABASE_URL: '', JWT_SECRET: '', DATA_DIR: dataDir };
    expect(() => mint([], environment)).to.throw(
      /^JWT_SECRET: is not set, and there is no .*jwt-secret: run settlewire serve/,
    );
    expect(readdirSync(dataDir), 'made by asking').to.deep.equal([]);
    writeFileSync(join(dataDir, 'jwt-secret'), 'k'.repeat(64));
    expect(jwt.verify(mint([], environment), 'k'.repeat(64))).to.include({
      sub: '5e771e00-0000-4000-8000-000000000001',
    });
  });

  it('cannot sign where only an issuer elsewhere can', () => {
    const environment = {
      JWT_SECRET: '',
      JWKS_URL: 'https://auth.example/jwks',
      SIGNING_SECRET: 's'.repeat(32),
    };
    expect(() => mint(['--sub', SUB], environment)).to.throw(
      /^JWT_SECRET: is not set; with JWKS_URL alone only/,
    );
  });

  it('a wrong command line is one line that says what is allowed', () => {
    const cases: [string[], RegExp][] = [
      [[], /^--sub: is needed/],
      [['--sub', 'a b'], /^--sub: "a b" is neither a user id nor a wallet address$/],
      [['--sub', SUB, '--wallet', 'a\nb'], /^--wallet: "a\\nb" is neither/],
      [['--sub', SUB, '--role', 'admin'], /^--role: "admin" is not one of USER, ADMIN, SUPER_ADMIN$/],
      [['--sub', SUB, '--ttl', '31d'], /^--ttl: "31d" is not a time such as 90s.*30d at most$/],
      [['--sub', SUB, '--ttl', '0'], /^--ttl: /],
      [
        ['--sub', SUB, '--ttl', '-1s'],
        /^Option '--ttl' argument is ambiguous.* See settlewire token --help\.$/,
      ],
      [['somebody'], /^Unexpected argument 'somebody'.* See settlewire token --help\.$/],
    ];
    for (const [args, expected] of cases) {
      expect(() => mint(args), args.join(' ')).to.throw(expected);
      expect(() => mint(args))
        .to.throw()
        .with.property('name', 'UsageError');
    }
  });
});
