import { expect } from 'chai';
import jwt from 'jsonwebtoken';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { JWT_SECRET } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';

const NEW_SECRET = 'n'.repeat(32);

describe("the demo on a database of one's own", function () {
  this.timeout(40_000);
  let database: TestDatabase;
  let service: ServiceProcess | undefined;

  before(async () => {
    database = await createTestDatabase();
  });

  afterEach(() => service?.kill());
  after(() => database.drop());

  async function linkToken(environment: Record<string, string>): Promise<string> {
    const started = await ServiceProcess.create({ DATABASE_URL: database.url, DEMO: 'true', ...environment });
    service = started;
    await started.start();
    return waitFor(() => /#token=(\S+)/.exec(started.stdout)?.[1], {
      what: 'the dashboard link',
      timeoutMs: 20_000,
    });
  }

  async function opensSession(token: string): Promise<number> {
    const headers = { Authorization: `Bearer ${token}` };
    return (await fetch(`${service?.url}/v1/session`, { method: 'POST', headers })).status;
  }

  it('signs its link with the first of several keys, for the issuer and audience that are set', async () => {
    const token = await linkToken({
      JWT_SECRET: '',
      JWT_SECRETS: `new=${NEW_SECRET},old=${'o'.repeat(32)}`,
      JWT_ISSUER: 'https://auth.example.com',
      JWT_AUDIENCE: 'settlewire',
    });
    expect(jwt.decode(token, { complete: true })).to.deep.include({
      header: { alg: 'HS256', typ: 'JWT', kid: 'new' },
    });
    expect(jwt.verify(token, NEW_SECRET)).to.include({
      iss: 'https://auth.example.com',
      aud: 'settlewire',
      role: 'USER',
    });
    expect(await opensSession(token)).to.equal(200);
    expect(await service?.terminate()).to.deep.equal({ code: 0, signal: null });
  });

  it('with the one key names neither key nor issuer nor audience', async () => {
    const token = await linkToken({});
    expect(jwt.decode(token, { complete: true })).to.deep.include({ header: { alg: 'HS256', typ: 'JWT' } });
    expect(jwt.verify(token, JWT_SECRET)).to.not.have.any.keys('iss', 'aud');
    expect(await opensSession(token)).to.equal(200);
    expect(await service?.terminate()).to.deep.equal({ code: 0, signal: null });
  });
});
