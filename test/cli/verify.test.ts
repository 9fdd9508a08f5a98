import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect } from 'chai';
import { runVerify } from '../../src/cli/verify.ts';
import type { Service } from '../../src/service.ts';
import type { Report } from '../../src/verify/report.ts';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { failure } from '../support/session.ts';
import { JWT_SECRET, mintToken } from '../support/tokens.ts';

/** A horizon that does not look at who is in flight, as `WHERE id > cursor` has none. */
const NAIVE_HORIZON = `create or replace function outbox_bound(out horizon bigint, out in_flight boolean) language sql volatile
  as $$ select coalesce(pg_sequence_last_value('outbox_id_seq'), -1), false $$`;

describe('settlewire verify', function () {
  this.timeout(40_000);
  let database: TestDatabase;
  let one: Service;
  let two: Service;

  before(async () => {
    database = await createTestDatabase();
    one = await startService(database.url);
    two = await startService(database.url);
  });

  after(async () => {
    await Promise.all([one.stop(), two.stop()]);
    await database.drop();
  });

  async function run(
    args: readonly string[],
    environment: Record<string, string> = {},
  ): Promise<{ exact: boolean; stdout: string }> {
    let stdout = '';
    const exact = await runVerify(
      args,
      { DATABASE_URL: database.url, JWT_SECRET, ...environment },
      (text) => {
        stdout += text;
      },
    );
    return { exact, stdout };
  }

  /** As a person runs it. */
  async function runProcess(
    args: readonly string[],
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const made = await ServiceProcess.create(
      { DATABASE_URL: database.url, JWT_SECRET },
      { command: ['verify', ...args], settings: {} },
    );
    made.spawn();
    const { code } = await made.exit;
    return { code, stdout: made.stdout, stderr: made.stderr };
  }

  it('two instances that are exact: 0, 0, 0 of each, over drops and resumes, and exit code 0', async () => {
    const { code, stdout, stderr } = await runProcess([
      '--url',
      one.url,
      '--url',
      two.url,
      '--seconds',
      '3',
      '--json',
    ]);
    expect([code, stderr]).to.deep.equal([0, '']);
    const report = JSON.parse(stdout) as Report;
    expect(report.written).to.be.above(100);
    expect([report.lost, report.unsure, report.exact]).to.deep.equal([0, 0, true]);
    expect(report.rolledBack).to.be.above(0);
    expect(report.instances.map(({ url }) => url)).to.deep.equal([one.url, two.url]);
    for (const instance of report.instances) {
      expect(instance).to.include({
        subscribers: 8,
        delivered: report.written,
        missed: 0,
        duplicated: 0,
        outOfOrder: 0,
        unexpected: 0,
        resets: 0,
      });
      expect(instance.resumes, 'subscribers that came back').to.be.above(3);
      expect(instance.latencyMs.p99).to.be.at.least(instance.latencyMs.p50 ?? Number.NaN);
    }
    const { rows } = await database.pool.query(
      "select count(*)::int as n from outbox where data ->> 'run' = $1",
      [report.run],
    );
    expect(rows[0]?.n).to.equal(report.written);
  });

  it('one that loses events is found out: a horizon that does not wait for writers in flight', async () => {
    const faulty = await createTestDatabase();
    await faulty.pool.query(NAIVE_HORIZON);
    const service = await startService(faulty.url);
    try {
      const { exact, stdout } = await run(['--url', service.url, '--seconds', '3'], {
        DATABASE_URL: faulty.url,
      });
      expect(exact).to.equal(false);
      expect(Number(/^ {2}missed +(\d+)$/m.exec(stdout)?.[1])).to.be.above(0);
      expect(stdout).to.match(/\nNOT EXACT\n$/);
    } finally {
      await service.stop();
      await faulty.drop();
    }
  });

  it('with a token of somebody and no key: on their own topic', async () => {
    const token = mintToken({ sub: '0xAB00000000000000000000000000000000000001' });
    const { exact, stdout } = await run(
      ['--url', `${one.url}/`, '--seconds', '1', '--subscribers', '3', '--token', token],
      { JWT_SECRET: '' },
    );
    expect(exact).to.equal(true);
    expect(stdout)
      .to.match(/subscribers +3, which came back \d+ times\n/)
      .and.to.match(/\nexact: every event, once, in order\n$/);
    const { rows } = await database.pool.query(
      "select count(*)::int as n from outbox where topic = 'wallet:0xab00000000000000000000000000000000000001'",
    );
    expect(rows[0]?.n).to.be.above(0);
  });

  describe('what cannot be checked is said in one line', () => {
    async function refused(
      args: readonly string[],
      environment: Record<string, string> = {},
    ): Promise<string> {
      const { message } = await failure(run(args, environment));
      expect(message).not.to.include('\n');
      return message;
    }

    it('a database that cannot be reached, or none at all', async () => {
      const url = 'postgres://nobody:secret@127.0.0.1:1/none';
      const message = await refused(['--url', one.url], { DATABASE_URL: url });
      expect(message).to.match(/^cannot reach the database: .*ECONNREFUSED/);
      expect(message).not.to.include('secret');
      expect(await refused(['--url', one.url], { DATABASE_URL: '' })).to.match(/^DATABASE_URL: is not set/);
    });

    it('no outbox there', async () => {
      const empty = await createEmptyDatabase();
      try {
        expect(await refused(['--url', one.url], { DATABASE_URL: empty.url })).to.match(
          /^there is no outbox in this database/,
        );
      } finally {
        await empty.drop();
      }
    });

    it('an instance that cannot be reached, is not ready, or is something else', async () => {
      expect(await refused(['--url', 'http://127.0.0.1:1'])).to.match(
        /^cannot reach http:\/\/127\.0\.0\.1:1\//,
      );
      let status = 503;
      const other = createServer((_, response) => response.writeHead(status).end()).listen(0, '127.0.0.1');
      await once(other, 'listening');
      const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
      try {
        expect(await refused(['--url', url])).to.equal(`${url} is not ready: 503 from /readyz`);
        status = 200;
        expect(await refused(['--url', url])).to.equal(`${url} is no settlewire: 200 from /v1/cursor`);
      } finally {
        other.close();
      }
    });

    it('an instance over another database', async () => {
      const other = await createTestDatabase();
      await other.pool.query('update outbox_meta set epoch = gen_random_uuid()');
      try {
        expect(await refused(['--url', one.url], { DATABASE_URL: other.url })).to.match(
          /follows another database than DATABASE_URL/,
        );
      } finally {
        await other.drop();
      }
    });

    it('a token or a key that the instance does not take', async () => {
      expect(await refused(['--url', one.url], { JWT_SECRET: 'x'.repeat(48) })).to.match(
        /refuses the token: 401 unauthenticated/,
      );
      const expired = mintToken({ sub: '0xab00000000000000000000000000000000000001', exp: 1_000_000_000 });
      expect(await refused(['--url', one.url, '--token', expired])).to.match(/401 token_expired/);
      expect(await refused(['--token', 'nonsense'])).to.match(/^--token: /);
    });

    it('options with mistakes', async () => {
      expect(await refused(['--writers', 'many'])).to.match(
        /^--writers: "many" is not a whole number from 1 to/,
      );
      expect(await refused(['--url', 'localhost:8080'])).to.match(/^--url: "localhost:8080" is not a URL/);
      expect(await refused(['--hurry'])).to.match(/--hurry/);
    });
  });

  it('as a command: explains itself; what it cannot do is one line and exit code 1', async () => {
    const help = await runProcess(['--help']);
    expect([help.code, help.stderr]).to.deep.equal([0, '']);
    expect(help.stdout)
      .to.match(/^settlewire verify: /)
      .and.to.include('--rollback-percent');
    const { code, stdout, stderr } = await runProcess(['--url', 'http://127.0.0.1:1']);
    expect([code, stdout]).to.deep.equal([1, '']);
    expect(stderr).to.match(/^settlewire: cannot reach http:[^\n]+\n$/);
  });
});
