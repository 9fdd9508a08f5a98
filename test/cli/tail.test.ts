import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { runTail } from '../../src/cli/tail.ts';
import { plain } from '../../src/cli/terminal.ts';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { needPrograms } from '../support/programs.ts';
import { startService } from '../support/service.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { column, failure } from '../support/session.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';

interface Said {
  code: number | undefined;
  stdout: string;
  notes: string[];
}

describe('settlewire tail', function () {
  this.timeout(40_000);
  let database: TestDatabase;
  let service: Service;
  let ana: Person;
  let stream: string;
  let topics: string[];
  let directory: string;

  before(async () => {
    database = await createTestDatabase();
    const { pool } = database;
    ana = await makePerson(pool, 1);
    const ben = await makePerson(pool, 2);
    // Who they are has changed by that: nobody is given the past of another. So here the past begins after it.
    await pool.query('delete from outbox');
    service = await startService(database.url, { SUBSCRIBER_BUFFER_BYTES: '16384', STALL_SECONDS: '0.3' });
    stream = await makeStream(pool, ana, ben);
    await pool.query("update streams set status = 'paused' where id = $1", [stream]);
    topics = [`stream:${stream}`, `user:${ana.id}`, `wallet:${ana.wallet}`];
    directory = mkdtempSync(join(tmpdir(), 'settlewire-tail-'));
  });

  after(async () => {
    await service.stop();
    await database.drop();
    rmSync(directory, { recursive: true });
  });

  /** Runs it in this process; `write` may hold it up. */
  function start(
    args: readonly string[],
    { url = service.url, token = ana.token, write = async (_text: string): Promise<void> => {} } = {},
  ): { said: Said; ended: Promise<Said> } {
    const said: Said = { code: undefined, stdout: '', notes: [] };
    const ended = runTail(['--url', url, '--token', token, ...args], {
      write: async (text) => {
        await write(text);
        said.stdout += text;
      },
      note: (text) => said.notes.push(text),
      paint: plain,
    }).then((code) => Object.assign(said, { code }));
    return { said, ended };
  }

  const run = (...parameters: Parameters<typeof start>): Promise<Said> => start(...parameters).ended;
  const idsOf = (stdout: string): number[] =>
    stdout
      .trimEnd()
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line).id);

  async function publish(count: number, bytes = 2): Promise<void> {
    const data = JSON.stringify({ a: 'x'.repeat(bytes) });
    await database.pool.query("select outbox_publish($1, 'test:event', $2) from generate_series(1, $3)", [
      `stream:${stream}`,
      data,
      count,
    ]);
    await read();
  }

  /** Caught up is who has what the service has read. */
  async function read(): Promise<void> {
    const [newest = 0] = await column<number>(database.pool, 'select max(id) from outbox');
    await waitFor(() => service.hub.cursor >= newest, { what: 'the service to read' });
  }

  describe('--until caught-up, from the oldest on', () => {
    it('--json: a line for each event, with its data as it is in the outbox, to the letter', async () => {
      await database.pool.query(
        `select outbox_publish($1, 'test:event', '{"big" : 12345678901234567890.10,  "a":"\\u001b[2J"}')`,
        [`stream:${stream}`],
      );
      await read();
      const { code, stdout } = await run(['--cursor', 'oldest', '--until', 'caught-up', '--json']);
      expect(code).to.equal(0);
      const lines = await column<string>(
        database.pool,
        `select '{"id":' || id || ',"type":"' || type || '","data":' || data || '}' from outbox where topic = any ($1) order by id`,
        [topics],
      );
      expect(lines).to.have.length.above(3);
      expect(stdout).to.equal(lines.map((line) => `${line}\n`).join(''));
    });

    it('pretty: id, type and fields in columns, nothing that could steer a terminal, connection notes apart', async () => {
      const { code, stdout, notes } = await run(['--cursor', '0', '--until=caught-up', `stream:${stream}`]);
      expect(code).to.equal(0);
      expect(stdout).to.match(
        new RegExp(`^ +\\d+ {2}stream:updated {12}streamId=${stream} status=active previousStatus=null .*\n`),
      );
      expect(stdout).to.match(/ {2}test:event {16}big=12345678901234567000 a="\\u001b\[2J"\n/);
      expect(notes).to.deep.equal(['connected at 0: 1 topics']);
    });

    it('--raw: the stream as a client gets it', async () => {
      const { stdout } = await run(['--cursor', '0', '--until', 'caught-up', '--raw', `stream:${stream}`]);
      expect(stdout).to.match(
        /^retry: \d+\nevent: session\ndata: \{"cursor":0,.*\}\n\nevent: stream:updated\ndata: /,
      );
      expect(stdout).to.match(/\nid: \d+\n\nevent: caught-up\ndata: \{"cursor":\d+\}\nid: \d+\n\n$/);
    });

    it('without a cursor there is nothing to show', async () => {
      expect(await run(['--until', 'caught-up'])).to.deep.include({ code: 0, stdout: '' });
    });
  });

  it('--count: ends after so many, and the next begins right there', async () => {
    const first = await run(['--cursor', 'oldest', '--count', '2', '--json']);
    const [, second] = idsOf(first.stdout);
    const rest = await run(['--cursor', String(second), '--until', 'caught-up', '--json']);
    expect([...idsOf(first.stdout), ...idsOf(rest.stdout)]).to.deep.equal(
      await outboxIds(database.pool, topics),
    );
    expect(idsOf(first.stdout)).to.have.length(2);
  });

  it('follows: what happens from now on, as it happens', async () => {
    const { said, ended } = start(['--count', '2', '--json']);
    await waitFor(() => said.notes.length > 0, { what: 'the connection' });
    await publish(2);
    await ended;
    const all = await outboxIds(database.pool, topics);
    expect(idsOf(said.stdout)).to.deep.equal(all.slice(-2));
  });

  it('an administrator gets every topic', async () => {
    const token = mintToken({ sub: '0195f7a0-0000-7000-8000-000000000001', role: 'ADMIN' });
    const { stdout, notes } = await run(['--cursor', 'oldest', '--until', 'caught-up', '--json'], { token });
    expect(idsOf(stdout)).to.deep.equal(await outboxIds(database.pool));
    expect(notes).to.deep.equal(['connected at 0: every topic']);
  });

  it('output that is slow: the service sends it away, it comes back, and nothing is skipped or repeated', async () => {
    const [last] = (await outboxIds(database.pool, topics)).slice(-1);
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let texts = 0;
    const { said, ended } = start(['--cursor', String(last), '--count', '3000', '--json'], {
      write: async () => {
        texts += 1;
        if (texts === 1) await held;
      },
    });
    await waitFor(() => said.notes.length > 0, { what: 'the connection' });
    await publish(3000, 4000);
    await waitFor(() => texts > 0 && service.hub.subscribers.size === 0, {
      what: 'the service to cut it off',
      timeoutMs: 15_000,
    });
    release();
    expect((await ended).code).to.equal(0);
    expect(idsOf(said.stdout)).to.deep.equal(await outboxIds(database.pool, topics, last));
    expect(said.notes.filter((note) => note.startsWith('connected'))).to.have.length.above(1);
  });

  it('over a service that is killed and restarted again and again: every event once and in order', async () => {
    const other = await ServiceProcess.start(database.url);
    try {
      const [last] = (await outboxIds(database.pool, topics)).slice(-1);
      const { said, ended } = start(
        ['--cursor', String(last), '--count', '400', '--patience', '10m', '--json'],
        {
          url: other.url,
        },
      );
      await waitFor(() => said.notes.length > 0, { what: 'the connection' });
      for (let round = 0; round < 2; round += 1) {
        for (let batch = 0; batch < 10; batch += 1) await publish(20);
        await other.kill();
        await other.start();
      }
      await ended;
      expect(idsOf(said.stdout)).to.deep.equal(await outboxIds(database.pool, topics, last));
      expect(said.notes.join('\n')).to.match(/; coming back in \d\.\d s/);
    } finally {
      await other.kill();
    }
  });

  it('a reset is said, and an end that was asked for is then no success', async () => {
    const { code, stdout, notes } = await run(['--cursor', '999999999', '--until', 'caught-up', '--json']);
    expect([code, stdout]).to.deep.equal([1, '']);
    expect(notes[1]).to.match(
      /^reset \(ahead\): events after 999999999 cannot all be had, the oldest cursor is 0;/,
    );
    expect(notes[2]).to.equal('0 events were shown, and others missed: take the state again');
  });

  describe('--cursor-file', () => {
    it('is made at once, kept up to date, and gone on from', async () => {
      const path = join(directory, 'cursor');
      const args = ['--cursor-file', path, '--json'];
      const first = await run([...args, '--cursor', 'oldest', '--count', '3']);
      expect(readFileSync(path, 'utf8')).to.equal(`${idsOf(first.stdout).at(-1)}\n`);
      const rest = await run([...args, '--cursor', 'oldest', '--until', 'caught-up']);
      expect([...idsOf(first.stdout), ...idsOf(rest.stdout)]).to.deep.equal(
        await outboxIds(database.pool, topics),
      );
      expect(await run([...args, '--until', 'caught-up']), 'nothing since').to.include({
        code: 0,
        stdout: '',
      });
      expect(existsSync(`${path}.new`)).to.equal(false);
    });

    it('without events yet it holds where the stream began, so that what happens before the next run is not missed', async () => {
      const path = join(directory, 'new-cursor');
      await run(['--cursor-file', path, '--until', 'caught-up']);
      await publish(1);
      const { stdout } = await run(['--cursor-file', path, '--until', 'caught-up', '--json']);
      expect(idsOf(stdout)).to.deep.equal((await outboxIds(database.pool, topics)).slice(-1));
    });

    it('has no id whose event is not in the output', async () => {
      const path = join(directory, 'careful');
      writeFileSync(path, '0\n');
      const error = await failure(
        run(['--cursor-file', path, '--json'], { write: () => Promise.reject(new Error('disk full')) }),
      );
      expect(error.message).to.equal('disk full');
      expect(readFileSync(path, 'utf8')).to.equal('0\n');
    });

    it('of something else is refused, and left alone', async () => {
      const path = join(directory, 'letter');
      writeFileSync(path, 'Dear Ana');
      expect((await failure(run(['--cursor-file', path]))).message).to.match(
        /does not hold the id of an event$/,
      );
      expect(readFileSync(path, 'utf8')).to.equal('Dear Ana');
      expect((await failure(run(['--cursor-file', directory]))).message).to.match(/^--cursor-file: EISDIR/);
    });
  });

  describe('what cannot be followed is said in one line', () => {
    it('a topic that is not yours, a token that has expired or that nobody signed', async () => {
      const foreign = ['user:0195f7a0-0000-7000-8000-000000000001'];
      expect((await failure(run(foreign))).message).to.match(/^refused: 403 forbidden: /);
      const expired = mintToken({ sub: ana.id, exp: 1_000_000_000 });
      expect((await failure(run([], { token: expired }))).message).to.match(/^refused: 401 token_expired: /);
      expect((await failure(run([], { token: 'a.b.c' }))).message).to.match(
        /^refused: 401 unauthenticated: /,
      );
      expect((await failure(run(['--cursor', 'oldest'], { token: 'a.b.c' }))).message).to.match(
        /does not tell its oldest cursor: 401 /,
      );
    });

    it('nobody there: comes back until its patience ends', async () => {
      const said = start(['--patience', '1s'], { url: 'http://127.0.0.1:1' });
      expect((await failure(said.ended)).message).to.match(/^connect ECONNREFUSED 127\.0\.0\.1:1; gave up$/);
      const oldest = await failure(run(['--cursor', 'oldest'], { url: 'http://127.0.0.1:2' }));
      expect(oldest.message).to.match(/^cannot reach http:\/\/127\.0\.0\.1:2: /);
    });

    it('a command line that is wrong', async () => {
      const cases: [string[], RegExp][] = [
        [['stream'], /^"stream": a topic is kind:key/],
        [['boat:1'], /^"boat:1": a topic's kind is one of/],
        [['--until', 'noon'], /^--until: "noon" is not caught-up$/],
        [['--cursor', '-1'], /^Option '--cursor'/],
        [['--cursor', '07'], /^--cursor: "07" is neither the id of an event nor oldest$/],
        [['--count', '0'], /^--count: "0" is not a whole number from 1 to/],
        [['--json', '--raw'], /^--json and --raw: one of the two$/],
        [['--token-file', '/nowhere'], /^--token or --token-file: one of the two is needed/],
      ];
      for (const [args, expected] of cases) expect((await failure(run(args))).message).to.match(expected);
      expect((await failure(run([], { token: 'secret' }))).message).to.equal(
        '--token: is not an access token',
      );
      const output = { write: async () => {}, note: () => {}, paint: plain };
      expect((await failure(runTail([], output))).message).to.match(/^--token or --token-file/);
      expect((await failure(runTail(['--token-file', '/nowhere'], output))).message).to.match(
        /^--token-file: ENOENT/,
      );
    });
  });

  it('as a command in a pipe: a token on standard input, and a reader that has had enough', async function () {
    needPrograms(this, 'bash');
    const loader = new URL('../support/typescript.mjs', import.meta.url).pathname;
    const tail = `PORT=${new URL(service.url).port} node --import ${loader} src/main.ts tail --token-file - --cursor oldest --json`;
    const shell = spawn('bash', ['-c', `${tail} | head -n 2; echo "\${PIPESTATUS[0]}"`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    shell.stdin.end(`${ana.token}\n`);
    let stdout = '';
    shell.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    // It learns that nobody reads when it has something to say.
    let ended = false;
    const end = once(shell, 'close').then(() => {
      ended = true;
    });
    while (!ended) {
      await publish(1);
      await Promise.race([end, new Promise((resolve) => setImmediate(resolve))]);
    }
    const [first = '', second = '', status] = stdout.trimEnd().split('\n');
    expect([JSON.parse(first).id, JSON.parse(second).id]).to.deep.equal(
      (await outboxIds(database.pool, topics)).slice(0, 2),
    );
    expect(status).to.equal('0');
  });
});
