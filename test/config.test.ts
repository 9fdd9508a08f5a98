import { availableParallelism } from 'node:os';
import { expect } from 'chai';
import { ConfigError, parseConfig, parseKeylessConfig, parsePort } from '../src/config.ts';

const DATABASE_URL = 'postgres://app:hunter2@db.example.com/app';
const JWT_SECRET = 'k'.repeat(32);

function mistakesOf(environment: Record<string, string>): readonly string[] {
  try {
    parseConfig(environment);
  } catch (error) {
    if (error instanceof ConfigError) return error.mistakes;
    throw error;
  }
  return [];
}

describe('configuration', () => {
  it('runs embedded on loopback, with the demo and a made key, when nothing is set', () => {
    const config = parseConfig({}, () => 'made');
    expect(config).to.include({
      embedded: true,
      databaseUrl: null,
      listenDatabaseUrl: null,
      dataDir: '.data',
      host: '127.0.0.1',
      port: 8080,
      adminHost: '127.0.0.1',
      adminPort: 9090,
      adminToken: null,
      demo: true,
      migrate: 'all',
      trustProxy: false,
      jwksUrl: null,
      cookieSameSite: 'strict',
      ticketSeconds: 60,
      resumeSeconds: 600,
      replayWindowBytes: 32 * 1024 * 1024,
      subscriberBufferBytes: 256 * 1024,
    });
    expect(config.jwtSecrets).to.deep.equal([{ kid: null, secret: 'made' }]);
  });

  it('makes a different key for each start', () => {
    const [first, second] = [parseConfig({}), parseConfig({})].map((config) => config.jwtSecrets[0]?.secret);
    expect(first).to.be.a('string').with.length.at.least(32);
    expect(first).not.to.equal(second);
  });

  it('takes a database with its key, binds to every address and plays no demo', () => {
    const config = parseConfig({ DATABASE_URL, JWT_SECRET });
    expect(config).to.include({
      embedded: false,
      databaseUrl: DATABASE_URL,
      listenDatabaseUrl: DATABASE_URL,
      host: '0.0.0.0',
      demo: false,
    });
    expect(config.jwtSecrets).to.deep.equal([{ kid: null, secret: JWT_SECRET }]);
  });

  it('gives headers no more time than the whole request', () => {
    expect(mistakesOf({ HEADERS_SECONDS: '20', REQUEST_SECONDS: '19.5' })).to.deep.equal([
      'HEADERS_SECONDS: 20 is more than REQUEST_SECONDS, 19.5',
    ]);
    expect(mistakesOf({ HEADERS_SECONDS: '20', REQUEST_SECONDS: '20' })).to.deep.equal([]);
  });

  it('takes a number of workers, or as many as there are processors', () => {
    expect(parseConfig({}).workers).to.equal(1);
    expect(parseConfig({ WORKERS: '4' }).workers).to.equal(4);
    expect(parseConfig({ WORKERS: 'auto' }).workers).to.equal(availableParallelism());
    for (const workers of ['0', '513', 'many', '-1', '1.5'])
      expect(mistakesOf({ WORKERS: workers })).to.deep.equal([
        `WORKERS: "${workers}" is not a whole number from 1 to 512, or auto`,
      ]);
  });

  it('refuses a database without a key', () => {
    expect(mistakesOf({ DATABASE_URL })).to.have.length(1);
    expect(mistakesOf({ DATABASE_URL })[0]).to.match(/^JWT_SECRET: is not set/);
  });

  it('reads keys by kid beside the one without', () => {
    const config = parseConfig({
      DATABASE_URL,
      JWT_SECRET,
      JWT_SECRETS: `a=${'x'.repeat(32)}, b=${'y='.repeat(20)}`,
    });
    expect(config.jwtSecrets).to.deep.equal([
      { kid: null, secret: JWT_SECRET },
      { kid: 'a', secret: 'x'.repeat(32) },
      { kid: 'b', secret: 'y='.repeat(20) },
    ]);
  });

  it('signs with SIGNING_SECRET, else with the first JWT secret, and accepts what SIGNING_SECRET_ACCEPTED signed', () => {
    const [SIGNING_SECRET, old] = ['s'.repeat(32), 'o'.repeat(32)];
    const JWT_SECRETS = `a=${'x'.repeat(32)},b=${'y'.repeat(32)}`;
    const secretsOf = (environment: Record<string, string>) =>
      parseConfig({ DATABASE_URL, ...environment }).signingSecrets;
    expect(secretsOf({ JWT_SECRETS })).to.deep.equal(['x'.repeat(32), 'y'.repeat(32)]);
    expect(secretsOf({ JWT_SECRETS, SIGNING_SECRET })).to.deep.equal([SIGNING_SECRET]);
    expect(secretsOf({ JWT_SECRET, SIGNING_SECRET_ACCEPTED: old })).to.deep.equal([JWT_SECRET, old]);
    expect(secretsOf({ JWT_SECRET, SIGNING_SECRET, SIGNING_SECRET_ACCEPTED: old })).to.deep.equal([
      SIGNING_SECRET,
      old,
    ]);
  });

  it('takes the keys of a JWKS alone, beside secrets, and for an embedded Postgres', () => {
    const environment = { JWKS_URL: 'https://id.example.com/jwks.json', SIGNING_SECRET: 's'.repeat(32) };
    expect(parseConfig({ DATABASE_URL, ...environment }).jwtSecrets).to.deep.equal([]);
    expect(parseConfig({ DATABASE_URL, JWT_SECRET, ...environment }).jwtSecrets).to.have.length(1);
    expect(parseConfig(environment, () => 'made').jwtSecrets).to.deep.equal([{ kid: null, secret: 'made' }]);
    for (const JWKS_URL of ['http://127.0.0.1:8081/jwks', 'http://localhost/jwks', 'http://[::1]:80/'])
      expect(parseConfig({ ...environment, JWKS_URL }).jwksUrl).to.equal(new URL(JWKS_URL).href);
    expect(parseKeylessConfig({ DATABASE_URL, JWKS_URL: environment.JWKS_URL }).databaseUrl).to.equal(
      DATABASE_URL,
    );
  });

  it('names every mistake on a line of its own: the variable, what is wrong, what is allowed', () => {
    const mistakes = mistakesOf({
      PORT: '80a',
      LOG_LEVEL: 'loud',
      DEMO: 'maybe',
      MIGRATE: 'some',
      AUTHORIZE_FUNCTION: 'visible; drop table x',
      HEARTBEAT_SECONDS: '-1',
      CORS_ORIGINS: 'https://app.example.com/path',
      TRUST_PROXY: 'true',
    });
    expect(mistakes).to.deep.equal([
      'PORT: "80a" is not a whole number from 0 to 65535',
      'CORS_ORIGINS: "https://app.example.com/path" is not an origin such as https://app.example.com (no path, no *, lower case)',
      'TRUST_PROXY: "true" is not false, a number of proxies, or a list of addresses, subnets, loopback, linklocal, uniquelocal',
      'LOG_LEVEL: "loud" is not one of trace, debug, info, warn, error, fatal, silent',
      'DEMO: "maybe" is not true or false',
      'MIGRATE: "some" is not one of all, outbox, off',
      'AUTHORIZE_FUNCTION: "visible; drop table x" is not of the form schema.function',
      'HEARTBEAT_SECONDS: "-1" is not a number from 0.1 to 300 (seconds)',
    ]);
    expect(() => parseConfig({ PORT: 'x', DEMO: 'y' })).to.throw(ConfigError, /^PORT: .*\nDEMO: .*$/);
  });

  const refused: [string, Record<string, string>, RegExp][] = [
    [
      'a database URL of another kind',
      { DATABASE_URL: 'mysql://u:hunter2@h/d', JWT_SECRET },
      /^DATABASE_URL: is not a Postgres URL/,
    ],
    ['a short secret', { JWT_SECRET: 'hunter2' }, /^JWT_SECRET: the secret has 7 bytes and needs 32/],
    [
      'a short secret among several',
      { JWT_SECRETS: 'a=hunter2' },
      /^JWT_SECRETS: the secret of "a" has 7 bytes/,
    ],
    ['a key without a kid', { JWT_SECRETS: 'hunter2' }, /^JWT_SECRETS: key 1 is not of the form kid=secret/],
    [
      'a kid that comes twice',
      { JWT_SECRETS: `a=${JWT_SECRET},a=${JWT_SECRET}` },
      /^JWT_SECRETS: has the kid "a" more than once/,
    ],
    [
      'a public key as a secret',
      { JWT_SECRET: '-----BEGIN PUBLIC KEY-----\nhunter2' },
      /^JWT_SECRET: the secret is a key in PEM/,
    ],
    [
      'a JWKS without a secret to sign with',
      { DATABASE_URL, JWKS_URL: 'https://id.example.com/jwks.json' },
      /^SIGNING_SECRET: is not set; with JWKS_URL it is needed/,
    ],
    ['a JWKS over plain http', { JWKS_URL: 'http://id.example.com/' }, /^JWKS_URL: is not an https URL/],
    [
      'a JWKS URL with a password',
      { JWKS_URL: 'https://u:hunter2@id.example.com/' },
      /^JWKS_URL: is not an https URL/,
    ],
    ['a JWKS URL that is none', { JWKS_URL: 'hunter2' }, /^JWKS_URL: is not an https URL/],
    [
      'a SameSite of no browser',
      { COOKIE_SAME_SITE: 'Lax' },
      /^COOKIE_SAME_SITE: "Lax" is not one of strict/,
    ],
    [
      'resume tokens that end before they are renewed',
      { HEARTBEAT_SECONDS: '10', RESUME_SECONDS: '29' },
      /^RESUME_SECONDS: 29 is less than three times HEARTBEAT_SECONDS \(10\)/,
    ],
    ['a short signing secret', { SIGNING_SECRET: 'hunter2' }, /^SIGNING_SECRET: the secret has 7 bytes/],
    [
      'a replica without a primary',
      { REPLAY_DATABASE_URL: DATABASE_URL },
      /^REPLAY_DATABASE_URL: is set without DATABASE_URL/,
    ],
    [
      'a database URL without its slashes, whose password would be a path',
      { DATABASE_URL: 'postgres:hunter2@db.example.com/app' },
      /^DATABASE_URL: is not a Postgres URL/,
    ],
    [
      'a listen URL alone',
      { LISTEN_DATABASE_URL: DATABASE_URL },
      /^LISTEN_DATABASE_URL: is set without DATABASE_URL/,
    ],
    [
      'an admin port for all without a token',
      { ADMIN_HOST: '0.0.0.0' },
      /^ADMIN_TOKEN: is not set; .*0\.0\.0\.0/,
    ],
    ['an admin token that can be guessed', { ADMIN_TOKEN: 'short' }, /^ADMIN_TOKEN: the secret has 5 bytes/],
    ['one port for both', { PORT: '9090' }, /^ADMIN_PORT: 9090 is PORT as well/],
    ['any origin', { CORS_ORIGINS: '*' }, /^CORS_ORIGINS: "\*" is not an origin/],
    [
      'a fraction where a whole number is meant',
      { MAX_CONNECTIONS: '1.5' },
      /^MAX_CONNECTIONS: "1.5" is not a whole number/,
    ],
    [
      'a number out of bounds',
      { RELAY_BATCH_EVENTS: '0' },
      /^RELAY_BATCH_EVENTS: "0" is not a whole number from 1/,
    ],
  ];
  for (const [what, environment, line] of refused) {
    it(`refuses ${what} and keeps secrets out of the message`, () => {
      const mistakes = mistakesOf(environment);
      expect(mistakes).to.have.length(1);
      expect(mistakes[0]).to.match(line).and.not.contain('hunter2');
    });
  }

  it('takes lists, flags, fractions of a second and hops', () => {
    const config = parseConfig({
      CORS_ORIGINS: 'https://a.example, http://localhost:3000 ,',
      TRUST_PROXY: '1',
      DEMO: 'off',
      DRAIN_SECONDS: '0.25',
      PORT: '0',
      ADMIN_PORT: '0',
    });
    expect(config.corsOrigins).to.deep.equal(['https://a.example', 'http://localhost:3000']);
    expect(config).to.include({ trustProxy: 1, demo: false, drainSeconds: 0.25, port: 0 });
    expect(parseConfig({ TRUST_PROXY: 'loopback, 10.0.0.0/8' }).trustProxy).to.deep.equal([
      'loopback',
      '10.0.0.0/8',
    ]);
    expect(parseConfig({ TRUST_PROXY: 'false', DEMO: 'true' })).to.include({ trustProxy: false, demo: true });
  });

  it('takes an empty variable as not set and ignores those it does not know', () => {
    expect(parseConfig({ PORT: ' ', DATABASE_URL: '', PORTS: 'x' })).to.include({
      port: 8080,
      embedded: true,
    });
  });

  it('of a command that signs nothing needs no key, but a database', () => {
    expect(parseKeylessConfig({ DATABASE_URL }).databaseUrl).to.equal(DATABASE_URL);
    expect(() => parseKeylessConfig({})).to.throw(ConfigError, 'DATABASE_URL: is not set');
  });

  it('of a command that asks a running instance is its port alone', () => {
    expect(parsePort({ PORT: '18080', JWT_SECRET: 'short' })).to.equal(18_080);
    expect(parsePort({})).to.equal(8080);
    expect(() => parsePort({ PORT: 'http' })).to.throw(ConfigError, 'PORT: "http" is not a whole number');
  });

  it('cannot be changed afterwards, however deep', () => {
    const config = parseConfig({ JWT_SECRET, CORS_ORIGINS: 'https://a.example' });
    expect(() => Object.assign(config, { port: 1 })).to.throw(TypeError);
    expect(() => Object.assign(config.corsOrigins, ['x'])).to.throw(TypeError);
    expect(() => Object.assign(config.jwtSecrets[0] ?? {}, { secret: 'x' })).to.throw(TypeError);
  });
});
