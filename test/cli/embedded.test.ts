import { spawn } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { runDoctor } from '../../src/cli/doctor.ts';
import { plain } from '../../src/cli/terminal.ts';
import { createPool } from '../../src/database.ts';
import { type Follower, followWithEventsource } from '../clients/followers.ts';
import { needPrograms } from '../support/programs.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { outboxIds } from '../support/world.ts';

/** What it prints when it is ready. */
interface Banner {
  readonly link: string;
  readonly token: string;
  readonly curl: string;
  readonly databaseUrl: string;
}

describe('settlewire serve without a database of ours', function () {
  this.timeout(90_000);
  let dataDir: string;
  let service: ServiceProcess;
  let first: Banner;
  let second: Banner;
  let follower: Follower;
  let topics: string[];
  let start: number;

  before(async () => {
    dataDir = await mkdtemp(join(tmpdir(), 'settlewire-cli-'));
    await chmod(dataDir, 0o755);
    service = await ServiceProcess.create({ DATA_DIR: dataDir, RETRY_MS: '100' }, { settings: {} });
    first = await startAndRead();
  });

  after(async () => {
    await follower?.close();
    if (service.running) await service.terminate();
    await rm(dataDir, { recursive: true, force: true });
  });

  async function startAndRead(): Promise<Banner> {
    await service.start(60_000);
    const line = (name: string): string =>
      new RegExp(`^ {2}${name} +(.+)$`, 'm').exec(service.stdout)?.[1] ?? '';
    await waitFor(() => line('Database') !== '', { what: 'the banner', timeoutMs: 20_000 });
    const link = line('Dashboard');
    return {
      link,
      token: new URL(link).hash.replace('#token=', ''),
      curl: line('curl'),
      databaseUrl: line('Database'),
    };
  }

  async function ids(after: number): Promise<number[]> {
    const pool = createPool(second.databaseUrl, { max: 1, applicationName: 'test' });
    const found = await outboxIds(pool, topics, after);
    await pool.end();
    return found;
  }

  it('prints a dashboard link that works: the page, and a token that opens a session', async () => {
    expect(first.link).to.match(new RegExp(`^${service.url}/#token=`));
    const page = await fetch(first.link);
    expect(page.status).to.equal(200);
    expect(page.headers.get('Content-Type')).to.match(/^text\/html/);
    const headers = { Authorization: `Bearer ${first.token}` };
    const session = await fetch(`${service.url}/v1/session`, { method: 'POST', headers });
    expect(session.status).to.equal(200);
    expect(await session.json()).to.include({ role: 'USER' });
  });

  it('the doctor finds its database by the data directory alone', async () => {
    let said = '';
    const print = (text: string): void => {
      said += text;
    };
    const environment = { DATA_DIR: dataDir, MAX_CONNECTIONS: '10' };
    const code = await runDoctor(['--url', service.url], environment, { print, paint: plain });
    // The one setting that a Postgres comes with as the doctor does not like it.
    expect(said).to.match(/\nwarn {2}setting +idle_in_transaction_session_timeout is off/);
    expect(said).to.match(/\nok +instances +1 connected\n\n17 ok, 1 to mind, 0 broken\n$/);
    expect(code).to.equal(1);
  });

  it('serves as a role that can only read', async () => {
    const pool = createPool(first.databaseUrl, { max: 1, applicationName: 'test' });
    const { rows } = await pool.query(
      `select application_name, min(usename::text) as role from pg_stat_activity
        where application_name in ('settlewire relay', 'settlewire listen', 'settlewire demo market') group by 1 order by 1`,
    );
    await pool.end();
    expect(rows).to.deep.equal([
      { application_name: 'settlewire demo market', role: 'postgres' },
      { application_name: 'settlewire listen', role: 'settlewire_service' },
      { application_name: 'settlewire relay', role: 'settlewire_service' },
    ]);
  });

  it('prints a curl line that works as pasted: the stream, with live events of the demo', async function () {
    needPrograms(this, 'bash', 'curl');
    const shell = spawn('bash', ['-c', `exec ${first.curl}`], { stdio: ['ignore', 'pipe', 'ignore'] });
    let output = '';
    shell.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    await waitFor(
      () =>
        /\nevent: caught-up\n[\s\S]*\nevent: (stream|settle|escrow|notification):\w+\ndata: /.test(output),
      {
        what: `an event, have ${output}`,
        timeoutMs: 30_000,
      },
    );
    shell.kill();
    expect(output).to.match(/^retry: \d+\nevent: session\ndata: \{/);
  });

  it('killed and started again: the same data, the same key, and a client that carries on', async () => {
    const witness = await SseClient.open(`${service.url}/v1/events`, first.token);
    const { data } = await witness.message('session');
    witness.close();
    topics = (data['topics'] as string[]).filter((topic) => topic.startsWith('stream:'));
    start = data['cursor'] as number;
    const query = [...topics.map((topic) => `topic=${topic}`), `lastEventId=${start}`].join('&');
    follower = followWithEventsource(`${service.url}/v1/events?${query}`, first.token);
    await waitFor(() => follower.ids.length >= 3, { what: 'three events', timeoutMs: 30_000 });
    await service.kill();
    const before = follower.ids.length;
    second = await startAndRead();
    await waitFor(() => follower.ids.length >= before + 3, { what: 'three more events', timeoutMs: 30_000 });
    const got = [...follower.ids];
    const last = got.at(-1) ?? 0;
    expect(got).to.deep.equal((await ids(start)).filter((id) => id <= last));
    expect(follower.types).to.not.include('reset');
  });

  it('stopped: drains, stops its Postgres, and exits with 0', async () => {
    expect(await service.terminate()).to.deep.equal({ code: 0, signal: null });
    const pool = createPool(second.databaseUrl, { max: 1, applicationName: 'test' });
    const refused = await pool.query('select 1').then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error.code,
    );
    await pool.end();
    expect(refused).to.equal('ECONNREFUSED');
  });
});
