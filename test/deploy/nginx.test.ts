import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { runTail } from '../../src/cli/tail.ts';
import { plain } from '../../src/cli/terminal.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { FrontProxy } from '../support/front-proxy.ts';
import { needPrograms } from '../support/programs.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, outboxIds, type Person } from '../support/world.ts';

describe('deploy/nginx.conf, with two instances', function () {
  this.timeout(60_000);
  let database: TestDatabase;
  const instances: ServiceProcess[] = [];
  let nginx: FrontProxy;
  let ana: Person;

  before(async function () {
    needPrograms(this, 'nginx', 'openssl');
    database = await createTestDatabase();
    ana = await makePerson(database.pool, 1);
    const settings = { TRUST_PROXY: '1', AUTH_FAILURES_PER_MINUTE: '1' };
    for (let n = 0; n < 2; n += 1) instances.push(await ServiceProcess.start(database.url, settings));
    const file = await readFile('deploy/nginx.conf', 'utf8');
    nginx = await FrontProxy.nginx(1, ([port]) =>
      file
        .replace('one:8080', new URL(instances[0]?.url ?? '').host)
        .replace('two:8080', new URL(instances[1]?.url ?? '').host)
        .replace('listen 80;', `listen 127.0.0.1:${port};`),
    );
  });

  after(async () => {
    await nginx?.stop();
    await Promise.all(instances.map((instance) => instance.kill()));
    await database?.drop();
  });

  it('both restarted in turn, under a client: every event once and in order', async () => {
    const url = `http://127.0.0.1:${nginx.ports[0]}`;
    const notes: string[] = [];
    let shown = '';
    const args = [
      '--url',
      url,
      '--token',
      ana.token,
      '--count',
      '200',
      '--patience',
      '10m',
      '--json',
      `user:${ana.id}`,
    ];
    const ended = runTail(args, {
      write: async (text) => {
        shown += text;
      },
      note: (text) => notes.push(text),
      paint: plain,
    });
    await waitFor(() => notes.length > 0, { what: 'the connection' });
    const start = (await outboxIds(database.pool)).at(-1) ?? 0;
    const publish = (): Promise<unknown> =>
      database.pool.query("select outbox_publish($1, 'test:event', '{}') from generate_series(1, 25)", [
        `user:${ana.id}`,
      ]);
    for (const instance of instances) {
      await publish();
      const [exit] = await Promise.all([instance.terminate(), publish()]);
      expect(exit.code).to.equal(0);
      await publish();
      await instance.start();
      await publish();
    }
    expect(await ended).to.equal(0);
    const ids = shown
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line).id);
    expect(ids).to.deep.equal(await outboxIds(database.pool, [`user:${ana.id}`], start));
    expect(notes.join('\n')).to.match(/coming back in/);
  });

  it('hands on whose request it is: its id, and the address that limits go by', async () => {
    const url = `http://127.0.0.1:${nginx.ports[0]}/v1/cursor`;
    const answer = await fetch(url, { headers: { Authorization: `Bearer ${ana.token}` } });
    expect(answer.headers.get('X-Request-Id')).to.match(/^[0-9a-f]{32}$/);
    const direct = `${instances[0]?.url}/v1/cursor`;
    const refused = async (address: string): Promise<number> =>
      (await fetch(direct, { headers: { Authorization: 'Bearer a.b.c', 'X-Forwarded-For': address } }))
        .status;
    expect([await refused('192.0.2.1'), await refused('192.0.2.1')]).to.deep.equal([401, 429]);
    expect(await refused('192.0.2.2'), 'somebody else').to.equal(401);
  });
});
