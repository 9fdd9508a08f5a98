import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import { type Command, UsageError } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { runCommand } from '../../src/cli/main.ts';

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(args: readonly string[], commands: readonly Command[] = COMMANDS): Promise<Outcome> {
  const said = { stdout: '', stderr: '' };
  const stream = (name: 'stdout' | 'stderr') => ({
    write: (text: string) => {
      said[name] += text;
    },
  });
  const code = await runCommand(commands, args, {
    version: '1.2.3',
    stdout: stream('stdout'),
    stderr: stream('stderr'),
  });
  return { code, ...said };
}

/** A command that does what it is told. */
function command(act: (args: readonly string[]) => Promise<number>): Command[] {
  return [{ name: 'act', summary: 'Acts.', help: 'settlewire act: acts.\n', run: act }];
}

describe('settlewire on the command line', () => {
  it('without a word, and for help: every command in one line each', async () => {
    for (const args of [[], ['help'], ['--help'], ['-h']]) {
      const { code, stdout, stderr } = await run(args);
      expect([code, stderr]).to.deep.equal([0, '']);
      for (const { name, summary } of COMMANDS)
        expect(stdout).to.match(new RegExp(`^  ${name} +${summary}$`, 'm'));
    }
  });

  it('every command explains itself, its options and its exit codes, in lines that fit a wide terminal', async () => {
    for (const { name } of COMMANDS) {
      const asked = await run([name, '--help']);
      expect([asked.code, asked.stderr]).to.deep.equal([0, '']);
      expect(asked.stdout).to.match(new RegExp(`^settlewire ${name}: [\\s\\S]*\\nUsage: settlewire ${name}`));
      expect(asked.stdout).to.match(
        /\nExit codes: 0 .*; 2 the command line is wrong\.\n$|\nExit codes: 0 .*2 .*\n$/,
      );
      expect(Math.max(...asked.stdout.split('\n').map((line) => line.length))).to.be.below(135);
      expect((await run(['help', name])).stdout).to.equal(asked.stdout);
      expect((await run([name, '-h'])).stdout).to.equal(asked.stdout);
    }
  });

  it('every command refuses an option that it does not know, names it, and says where to look: exit code 2', async () => {
    for (const { name } of COMMANDS) {
      const { code, stdout, stderr } = await run([name, '--hurry']);
      expect([code, stdout]).to.deep.equal([2, '']);
      expect(stderr).to.match(/^settlewire: [^\n]*'--hurry'[^\n]* See settlewire \w+ --help\.\n$/);
      expect(stderr).to.include(`settlewire ${name} --help`);
    }
  });

  it('a command that does not exist: named, with the help, and exit code 2', async () => {
    for (const args of [['serv'], ['help', 'serv'], ['--serve']]) {
      const { code, stdout, stderr } = await run(args);
      expect([code, stdout]).to.deep.equal([2, '']);
      expect(stderr).to.match(/^settlewire: there is no command "(serv|--serve)"\n\n/);
      expect(stderr).to.include('Usage: settlewire <command>');
    }
  });

  it('tells its version', async () => {
    for (const option of ['--version', '-V']) expect((await run([option])).stdout).to.equal('1.2.3\n');
  });

  it('hands on the arguments and the exit code of the command', async () => {
    let got: readonly string[] = [];
    const act = command(async (args) => {
      got = args;
      return 7;
    });
    expect(await run(['act', 'a', '--b', '--', '--help'], act)).to.deep.equal({
      code: 7,
      stdout: '',
      stderr: '',
    });
    expect(got).to.deep.equal(['a', '--b', '--', '--help']);
  });

  it('tells every line of an error with its own name, and tells a wrong command line from what could not be done', async () => {
    const fails = (error: unknown) => command(() => Promise.reject(error));
    expect(await run(['act'], fails(new Error('one\ntwo')))).to.deep.equal({
      code: 1,
      stdout: '',
      stderr: 'settlewire: one\nsettlewire: two\n',
    });
    expect(await run(['act'], fails('words'))).to.deep.include({ code: 1, stderr: 'settlewire: words\n' });
    expect(await run(['act'], fails(new UsageError('no')))).to.deep.include({ code: 2 });
  });

  it('is what the package installs', async () => {
    const { bin } = JSON.parse(await readFile('package.json', 'utf8'));
    expect(bin).to.deep.equal({ settlewire: 'dist/main.js' });
    expect(await readFile('src/main.ts', 'utf8')).to.match(/^#!\/usr\/bin\/env node\n/);
  });
});
