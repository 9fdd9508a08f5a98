import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmod,
  chown,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import pg from 'pg';
import { EmbeddedPostgresError, startEmbeddedPostgres } from '../src/embedded/embedded-postgres.ts';
import { reachableBinaries, restoreSymlinks } from '../src/embedded/postgres-binaries.ts';
import { choosePostgresUser } from '../src/embedded/postgres-user.ts';
import { processStartTime } from '../src/embedded/process-identity.ts';
import { waitFor } from './support/wait-for.ts';

const LOADER = new URL('./support/typescript.mjs', import.meta.url).href;
const OWNER = fileURLToPath(new URL('./support/embedded-process.ts', import.meta.url));
const isRoot = process.getuid?.() === 0;
const NOBODY = 65_534;

interface Owner {
  readonly child: ChildProcess;
  readonly url: string;
  readonly pid: number;
  readonly error?: string;
  /** The next line that it prints. */
  line(): Promise<{ kept?: number }>;
}

describe('the embedded Postgres', () => {
  let top: string;
  let dataDir: string;
  const children: ChildProcess[] = [];

  before(async function () {
    this.timeout(60_000);
    // Only root's own: below it Postgres' user can reach nothing by path.
    top = await mkdtemp(join(tmpdir(), 'settlewire-embedded-'));
    await chmod(top, 0o700);
    dataDir = join(top, 'data');
    const { server } = await start();
    await ask(server.url, 'create table kept (id int); insert into kept values (7)');
    await server.stop();
  });

  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  after(async () => {
    // A server that a failed test left behind.
    await start().then(({ server }) => server.stop());
    await rm(top, { recursive: true });
  });

  async function start(directory = dataDir, options: { port?: number } = {}) {
    const info: string[] = [];
    const debug: string[] = [];
    const log = (line: string, level: 'info' | 'debug') => void (level === 'info' ? info : debug).push(line);
    const server = await startEmbeddedPostgres({ dataDir: directory, log, ...options });
    return { server, info, debug };
  }

  async function ask(url: string, statement: string): Promise<Record<string, unknown>[]> {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => {});
    await client.connect();
    try {
      return (await client.query(statement)).rows;
    } finally {
      await client.end();
    }
  }

  const kept = async (url: string) => (await ask(url, 'select id from kept'))[0]?.id;

  function spawnOwner(directory = dataDir, options: { uid?: number; gid?: number } = {}): ChildProcess {
    const child = spawn(process.execPath, ['--import', LOADER, OWNER, directory], {
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
      ...options,
    });
    children.push(child);
    return child;
  }

  async function owner(directory = dataDir, options: { uid?: number; gid?: number } = {}): Promise<Owner> {
    const child = spawnOwner(directory, options);
    if (!child.stdout) throw new Error('the owner has no output');
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const line = async () => JSON.parse((await lines.next()).value ?? '{}');
    return { child, line, ...(await line()) };
  }

  async function refusal(attempt: Promise<unknown>): Promise<string> {
    try {
      await attempt;
    } catch (error) {
      expect(error).to.be.instanceOf(EmbeddedPostgresError);
      const { message } = error as Error;
      expect(message).not.to.include('\n');
      return message;
    }
    throw new Error('it started');
  }

  const gone = (pid: number) =>
    waitFor(() => processStartTime(pid) === null, { what: `process ${pid} to end` });

  it('keeps data and password over a restart, and can be stopped twice', async () => {
    const { server, debug } = await start();
    expect(await kept(server.url)).to.equal(7);
    expect(debug.join('\n')).to.include('database system was shut down at');
    await Promise.all([server.stop(), server.stop()]);
    await gone(server.pid);
    expect((await readdir(dataDir)).sort()).to.deep.equal(['postgres', 'postgres-password']);
  });

  it('listens on loopback alone, with a password that only we can read, in UTF-8', async () => {
    const { server } = await start();
    const [settings] = await ask(
      server.url,
      `select current_setting('listen_addresses') as addresses, current_setting('unix_socket_directories') as sockets,
              current_setting('max_connections') as connections, pg_encoding_to_char(encoding) as encoding, datlocale
         from pg_database where datname = current_database()`,
    );
    expect(settings).to.deep.equal({
      addresses: '127.0.0.1',
      sockets: '',
      connections: '200',
      encoding: 'UTF8',
      datlocale: 'C.UTF-8',
    });
    expect((await stat(join(dataDir, 'postgres-password'))).mode & 0o777).to.equal(0o600);
    const wrong = new URL(server.url);
    wrong.password = 'wrong';
    const error = await ask(wrong.href, 'select 1').catch((reason: unknown) => reason);
    expect(error).to.be.instanceOf(Error).with.property('code', '28P01');
    await server.stop();
  });

  it('refuses a directory that another settlewire holds, naming its pid', async () => {
    const first = await owner();
    expect(await refusal(start())).to.match(
      new RegExp(`in use by another settlewire, process ${first.child.pid}$`),
    );
    expect(await kept(first.url)).to.equal(7);
    first.child.kill('SIGTERM');
    await once(first.child, 'exit');
    const { server } = await start();
    expect(await refusal(start())).to.match(new RegExp(`process ${process.pid}$`));
    await server.stop();
  });

  it('shuts down the server that outlived a killed settlewire, says so once, and keeps its data', async () => {
    const first = await owner();
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    expect(await kept(first.url)).to.equal(7);
    const { server, info } = await start();
    expect(info).to.deep.equal([
      `stopped Postgres ${first.pid}, left over from a settlewire that was killed; its data is kept`,
    ]);
    expect(processStartTime(first.pid)).to.equal(null);
    expect(await kept(server.url)).to.equal(7);
    await server.stop();
  });

  it('recovers when settlewire and Postgres are killed together', async () => {
    const first = await owner();
    process.kill(first.pid, 'SIGKILL');
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    const { server, info } = await start();
    expect(info).to.deep.equal([]);
    expect(await kept(server.url)).to.equal(7);
    await server.stop();
  });

  it('is not held up by files that name a pid which is now somebody else', async () => {
    const stranger = spawn('sleep', ['60']);
    children.push(stranger);
    await once(stranger, 'spawn');
    const pidFile = join(dataDir, 'postgres', 'postmaster.pid');
    await writeFile(join(dataDir, 'settlewire.lock'), `${stranger.pid} 1\n`);
    await writeFile(pidFile, `${stranger.pid}\n/somewhere\n1\n5432\n\n127.0.0.1\n`);
    const { server } = await start();
    expect(await kept(server.url)).to.equal(7);
    expect(processStartTime(stranger.pid ?? 0)).to.be.a('string');
    await server.stop();
  });

  for (const [what, content] of [
    ['empty', ''],
    ['garbled', 'not a pid'],
    ['of a dead process', '4194303 12345\n'],
  ]) {
    it(`takes over a lock that is ${what}`, async () => {
      await writeFile(join(dataDir, 'settlewire.lock'), content ?? '');
      const attempts = await Promise.allSettled([start(), start(), start()]);
      const started = attempts.filter((attempt) => attempt.status === 'fulfilled');
      expect(started).to.have.length(1);
      await started[0]?.value.server.stop();
    });
  }

  it('makes the cluster anew when the first start was killed half-way', async function () {
    this.timeout(60_000);
    const fresh = join(top, 'half');
    const child = spawnOwner(fresh);
    await waitFor(async () => (await readdir(fresh)).find((name) => name.startsWith('postgres.new-')), {
      what: 'initdb to begin',
      timeoutMs: 10_000,
    });
    child.kill('SIGKILL');
    await once(child, 'exit');
    const { server } = await start(fresh);
    await ask(server.url, 'create table works (id int)');
    await server.stop();
    expect((await readdir(fresh)).sort()).to.deep.equal(['postgres', 'postgres-password']);
  });

  it('outlives a Ctrl-C until the service has drained, and then shuts down cleanly', async () => {
    const first = await owner();
    // What a terminal does: the signal goes to the whole process group.
    process.kill(-(first.child.pid ?? 0), 'SIGINT');
    expect(await first.line()).to.deep.equal({ kept: 1 });
    expect(await once(first.child, 'exit')).to.deep.equal([0, null]);
    const { server, debug } = await start();
    expect(debug.join('\n')).to.include('database system was shut down at');
    await server.stop();
  });

  it('goes when its process exits without stopping it', async () => {
    const first = await owner();
    first.child.kill('SIGUSR2');
    expect(await once(first.child, 'exit')).to.deep.equal([3, null]);
    await gone(first.pid);
  });

  it('takes the port that it is given, and says when that is in use', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const address = other.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    expect(await refusal(start(dataDir, { port }))).to.equal(
      `port ${port} for the embedded Postgres is already in use`,
    );
    other.close();
    await once(other, 'close');
    const { server } = await start(dataDir, { port });
    expect(new URL(server.url).port).to.equal(String(port));
    await server.stop();
  });

  it('names the password file when it is lost', async () => {
    const path = join(dataDir, 'postgres-password');
    await rename(path, `${path}.away`);
    expect(await refusal(start())).to.match(/postgres-password is missing or empty/);
    await rename(`${path}.away`, path);
  });

  it('says in one line why a server does not start', async () => {
    const path = join(dataDir, 'postgres', 'postgresql.auto.conf');
    const before = await readFile(path, 'utf8');
    await writeFile(path, "shared_buffers = 'nonsense'\n");
    expect(await refusal(start())).to.match(/^the embedded Postgres did not start: .*shared_buffers/);
    await writeFile(path, before);
  });

  it('says in one line that the directory cannot be made', async () => {
    const file = join(top, 'file');
    await writeFile(file, '');
    expect(await refusal(start(join(file, 'data')))).to.match(/^DATA_DIR .* cannot be made: /);
  });

  it('runs as an ordinary user, and later as root over that user’s data', async function () {
    this.timeout(60_000);
    if (!isRoot) this.skip();
    const theirs = await mkdtemp(join(tmpdir(), 'settlewire-nobody-'));
    await chown(theirs, NOBODY, NOBODY);
    const ids = { uid: NOBODY, gid: NOBODY };
    try {
      execFileSync(process.execPath, ['-e', `require('fs').readFileSync(${JSON.stringify(OWNER)})`], {
        ...ids,
        stdio: 'ignore',
      });
    } catch {
      // The checkout lies where nobody else may look.
      this.skip();
    }
    const first = await owner(join(theirs, 'data'), ids);
    expect(first.error).to.equal(undefined);
    await ask(first.url, 'create table kept (id int); insert into kept values (7)');
    first.child.kill('SIGTERM');
    await once(first.child, 'exit');
    const { server } = await start(join(theirs, 'data'));
    expect(await kept(server.url)).to.equal(7);
    await server.stop();
    await rm(theirs, { recursive: true });
  });

  it('uses a copy of the programs when their own directory is closed to Postgres’ user', async function () {
    this.timeout(60_000);
    if (!isRoot) this.skip();
    const user = await choosePostgresUser(join(top, 'none'));
    const anchor = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
    const native = dirname(dirname(anchor.resolve(`@embedded-postgres/${process.platform}-${process.arch}`)));
    const closed = join(top, 'closed');
    await cp(join(native, 'native'), join(closed, 'native'), { recursive: true, verbatimSymlinks: true });
    const open = await mkdtemp(join(tmpdir(), 'settlewire-open-'));
    await chmod(open, 0o755);
    const copy = join(open, 'cache', 'postgres');
    await mkdir(dirname(copy));
    const [first, second] = await Promise.all([
      reachableBinaries(user, join(closed, 'native'), copy),
      reachableBinaries(user, join(closed, 'native'), copy),
    ]);
    expect(first)
      .to.deep.equal(second)
      .and.have.property('postgres', join(copy, 'bin', 'postgres'));
    expect(await readdir(dirname(copy))).to.deep.equal(['postgres']);
    await rm(open, { recursive: true });
  });

  it('makes the symbolic links that an install without scripts leaves out', async () => {
    const native = join(top, 'bare', 'native');
    await mkdir(join(native, 'lib'), { recursive: true });
    await writeFile(join(native, 'lib', 'libpq.so.5.18'), 'library');
    const links = [{ source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' }];
    await writeFile(join(native, 'pg-symlinks.json'), JSON.stringify(links));
    await restoreSymlinks(native);
    await restoreSymlinks(native);
    expect(await readFile(join(native, 'lib', 'libpq.so.5'), 'utf8')).to.equal('library');
  });
});
