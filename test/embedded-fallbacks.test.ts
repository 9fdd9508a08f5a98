import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { closed, initialiseCluster, spawnPostgres } from '../src/embedded/cluster.ts';
import { EmbeddedPostgresError } from '../src/embedded/embedded-postgres.ts';
import { reachableBinaries, restoreSymlinks } from '../src/embedded/postgres-binaries.ts';
import { processCommand, processStartTime } from '../src/embedded/process-identity.ts';

const NO_PROCESS = 4_194_303;
const SELF = { name: 'this user', ids: {} };

describe('the embedded Postgres, where its machine is not as it should be', () => {
  let top: string;
  beforeEach(async () => {
    top = await mkdtemp(join(tmpdir(), 'settlewire-fallbacks-'));
  });
  afterEach(() => rm(top, { recursive: true }));

  async function programs(mode: number): Promise<string> {
    const native = join(top, 'native');
    await mkdir(join(native, 'bin'), { recursive: true });
    await writeFile(join(native, 'bin', 'postgres'), '#!/bin/sh\nexit 1\n');
    await chmod(join(native, 'bin', 'postgres'), mode);
    return native;
  }

  async function refusal(attempt: Promise<unknown>): Promise<string> {
    const error = await attempt.then(
      () => new Error('it was not refused'),
      (reason: Error) => reason,
    );
    expect(error).to.be.instanceOf(EmbeddedPostgresError);
    return error.message;
  }

  it('says that its programs do not run here, and what to set instead', async () => {
    const native = await programs(0o755);
    expect(await refusal(reachableBinaries(SELF, native, join(top, 'copy')))).to.match(
      /^the embedded Postgres does not run here: .*; set DATABASE_URL$/s,
    );
  });

  it('says whom its programs, and a copy of them, are closed to', async () => {
    const native = await programs(0o600);
    expect(await refusal(reachableBinaries(SELF, native, join(top, 'copies', 'copy')))).to.equal(
      `the embedded Postgres in ${native} cannot be run as this user; set DATABASE_URL`,
    );
  });

  it('needs no list of symbolic links', async () => {
    await restoreSymlinks(await programs(0o755));
  });

  it('reports a program that cannot be started as ended, with the reason', async () => {
    const binaries = { initdb: join(top, 'initdb'), postgres: join(top, 'postgres') };
    const cluster = { directory: top, user: SELF, binaries, password: 'secret' };
    const { child, lastLines } = spawnPostgres(cluster, {}, () => {});
    expect(await closed(child)).to.deep.equal([-1, null]);
    expect(lastLines()).to.contain('ENOENT');
  });

  it('says that initdb failed, and leaves no half of a cluster', async () => {
    const native = await programs(0o755);
    const program = join(native, 'bin', 'postgres');
    const directory = join(top, 'data', 'postgres');
    await mkdir(join(top, 'data'));
    const binaries = { initdb: program, postgres: program };
    const attempt = initialiseCluster({ directory, user: SELF, binaries, password: 'secret' });
    expect(await refusal(attempt)).to.match(/^initdb failed \(1\): /);
    expect(await readdir(join(top, 'data'))).to.deep.equal([]);
  });

  it('knows a process by start time and command line, and one that is gone by neither', async () => {
    const child = spawn('sleep', ['60']);
    await once(child, 'spawn');
    const pid = child.pid ?? 0;
    expect(processStartTime(pid)).to.match(/\S/);
    expect(processCommand(process.pid)).to.contain('node');
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(processStartTime(pid)).to.equal(null);
    expect(processStartTime(NO_PROCESS)).to.equal(null);
    expect(processCommand(NO_PROCESS)).to.equal('');
  });
});
