import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { findProgram } from './programs.ts';
import { waitFor } from './wait-for.ts';

const run = promisify(execFile);

/** Why there can be no far host here; undefined if there can. */
export function farHostMissing(): string | undefined {
  if (process.platform !== 'linux') return 'no Linux';
  if (process.getuid?.() !== 0) return 'not root';
  return undefined;
}

/** Another host, as far as the kernel is concerned: a network namespace behind a link of its own, whose route back can be dropped. */
export class FarHost {
  /** Our address on the link. */
  readonly here: string;
  readonly #name: string;
  readonly #there: string;

  private constructor(number: number) {
    this.#name = `far${number}`;
    this.here = `10.213.${number % 250}.1`;
    this.#there = `10.213.${number % 250}.2`;
  }

  static async create(): Promise<FarHost> {
    const host = new FarHost(process.pid);
    const [near, far] = [`${host.#name}a`, `${host.#name}b`];
    await ip('netns', 'add', host.#name);
    await ip('link', 'add', near, 'type', 'veth', 'peer', 'name', far, 'netns', host.#name);
    await ip('addr', 'add', `${host.here}/30`, 'dev', near);
    await ip('link', 'set', near, 'up');
    await ip('-n', host.#name, 'addr', 'add', `${host.#there}/30`, 'dev', far);
    await ip('-n', host.#name, 'link', 'set', far, 'up');
    return host;
  }

  /** Follows a stream from there; resolves when `until` has come. */
  async follow(url: string, token: string, until: string): Promise<void> {
    const curl = spawn(
      findProgram('ip') ?? 'ip',
      [...['netns', 'exec', this.#name, 'curl', '-sN'], ...['-H', `Authorization: Bearer ${token}`, url]],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let got = '';
    curl.stdout.setEncoding('utf8').on('data', (text: string) => {
      got += text;
    });
    this.#processes.push(curl);
    await waitFor(() => got.includes(until), { what: `${until} at the far host` });
  }

  readonly #processes: ReturnType<typeof spawn>[] = [];

  /** From now on nothing that it sends arrives, and nobody is told. */
  async vanish(): Promise<void> {
    await ip('-n', this.#name, 'route', 'add', 'blackhole', `${this.here}/32`);
  }

  async remove(): Promise<void> {
    for (const child of this.#processes.splice(0)) {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    }
    await ip('netns', 'del', this.#name);
  }
}

async function ip(...args: string[]): Promise<void> {
  await run(findProgram('ip') ?? 'ip', args);
}
