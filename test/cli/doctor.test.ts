import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { runDoctor } from '../../src/cli/doctor.ts';
import { plain } from '../../src/cli/terminal.ts';
import type { Finding } from '../../src/doctor/finding.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { needPrograms } from '../support/programs.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { failure } from '../support/session.ts';
import { JWT_SECRET } from '../support/tokens.ts';

const ESCAPE = '\u001b[';

describe('settlewire doctor', function () {
  this.timeout(30_000);
  let database: TestDatabase;
  let environment: Record<string, string>;

  before(async () => {
    database = await createTestDatabase();
    environment = { DATABASE_URL: database.serviceUrl, JWT_SECRET, MAX_CONNECTIONS: '10' };
  });

  after(() => database.drop());

  const set = (setting: string): Promise<unknown> =>
    database.pool.query(`alter database ${new URL(database.url).pathname.slice(1)} set ${setting}`);

  async function run(
    args: readonly string[],
    changes: Record<string, string> = {},
  ): Promise<{ code: number; stdout: string }> {
    let stdout = '';
    const print = (text: string): void => {
      stdout += text;
    };
    return { code: await runDoctor(args, { ...environment, ...changes }, { print, paint: plain }), stdout };
  }

  it('a line for each finding, advice below it, a sum at the end; the exit code is 0, 1 or 2', async () => {
    await set("idle_in_transaction_session_timeout = '60s'");
    const well = await run([]);
    expect(well.code, well.stdout).to.equal(0);
    expect(well.stdout).to.match(/^(ok {4}[a-z ]{19}\S.*\n){17}\n17 ok, 0 to mind, 0 broken\n$/);

    await set('idle_in_transaction_session_timeout = 0');
    const minding = await run([]);
    expect(minding.code).to.equal(1);
    expect(minding.stdout).to.match(
      /\nwarn {2}setting {12}idle_in_transaction_\S+ is off: .*\n {25}-> alter role .*\n/,
    );
    expect(minding.stdout).to.match(/\n16 ok, 1 to mind, 0 broken\n$/);

    const broken = await run(['--url', 'http://127.0.0.1:1']);
    expect(broken.code).to.equal(2);
    expect(broken.stdout).to.match(/\nfail {2}instance {11}http:\/\/127\.0\.0\.1:1 does not answer.*\n/);
  });

  it('--json: the same, as one object on one line', async () => {
    const { code, stdout } = await run(['--json']);
    expect(code).to.equal(1);
    expect(stdout).to.match(/^[^\n]+\n$/);
    const { grade, findings } = JSON.parse(stdout) as { grade: string; findings: Finding[] };
    expect(grade).to.equal('warn');
    expect(findings).to.have.length(17);
    for (const finding of findings)
      expect(finding).to.have.all.keys(
        'check',
        'grade',
        'says',
        ...(finding.grade === 'ok' ? [] : ['advice']),
      );
  });

  it('mistakes in the configuration are findings; a missing key keeps nobody from looking at the database', async () => {
    const keyless = await run([], { JWT_SECRET: '' });
    expect(keyless.code).to.equal(2);
    expect(keyless.stdout).to.match(/^fail {2}configuration {6}JWT_SECRET: is not set/);
    expect(keyless.stdout).to.match(/\nok {4}horizon /);
    const wrong = await run([], { PORT: 'eighty', HEARTBEAT_SECONDS: 'often' });
    expect(wrong.code).to.equal(2);
    expect(wrong.stdout).to.match(
      /^fail.*PORT: .*\n.*\nfail.*HEARTBEAT_SECONDS: .*\n.*\n\n0 ok, 0 to mind, 2 broken\n$/,
    );
  });

  it('no database at all: says what to set', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'settlewire-doctor-'));
    try {
      const { code, stdout } = await run([], { DATABASE_URL: '', DATA_DIR: dataDir });
      expect(code).to.equal(2);
      expect(stdout).to.match(/^fail {2}database +DATABASE_URL is not set, and no settlewire runs/);
    } finally {
      rmSync(dataDir, { recursive: true });
    }
  });

  it('refuses a command line that is wrong', async () => {
    expect((await failure(run(['--url', 'here']))).message).to.equal(
      '--url: "here" is not a URL such as http://127.0.0.1:8080',
    );
  });

  it('as a command: colours on a terminal and nowhere else, nor with NO_COLOR', async function () {
    needPrograms(this, 'script');
    const made = await ServiceProcess.create(environment, { command: ['doctor'], settings: {} });
    made.spawn();
    expect((await made.exit).code).to.equal(1);
    expect(made.stderr).to.equal('');
    expect(made.stdout)
      .to.match(/\n16 ok, 1 to mind, 0 broken\n$/)
      .and.not.include(ESCAPE);

    const loader = new URL('../support/typescript.mjs', import.meta.url).pathname;
    const onTerminal = async (more: Record<string, string>): Promise<string> => {
      // script(1) of util-linux gives its command a terminal.
      const child = spawn('script', ['-qec', `node --import ${loader} src/main.ts doctor`, '/dev/null'], {
        env: { PATH: process.env.PATH, TERM: 'xterm', ...environment, ...more },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let text = '';
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      const [code] = await once(child, 'close');
      expect(code).to.equal(1);
      return text;
    };
    expect(await onTerminal({})).to.include(`${ESCAPE}33mwarn${ESCAPE}39m`);
    expect(await onTerminal({ NO_COLOR: '1' }))
      .to.include('warn')
      .and.not.include(ESCAPE);
  });
});
