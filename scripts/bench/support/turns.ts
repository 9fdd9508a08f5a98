import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { OWN_SESSION } from './own-session.ts';
import { pgbenchOptions } from './pgbench.ts';
import type { BenchPostgres } from './postgres.ts';

/** One of several who write by turns, and whoever works for it. */
export interface Contestant {
  readonly database: string;
  /** Processes that run only while it is its turn. */
  readonly helpers: readonly number[];
}

export interface TurnsOptions {
  readonly clients: number;
  /** One transaction, in pgbench's language, that takes one transaction id. */
  readonly script: string;
  /** How long a turn is, in milliseconds, and what of its beginning is not measured. */
  readonly turnMs: number;
  readonly trimMs: number;
}

/** For its helpers to finish what its writers have begun, in milliseconds. */
const FINISH_MS = 40;
/** For pgbench to connect and prepare, in milliseconds. */
const CONNECT_MS = 800;
/** Longer than any benchmark, in seconds. */
const LONG = 86_400;

/**
 * Writers by turns of half a second. Each contestant has its own pgbench, which keeps its sessions; whoever does not write is stopped, its
 * helpers with it (SIGSTOP). What slows the machine for seconds so slows all of them, where turns as long as a session's begin and end would
 * call it a difference. Commits are counted by transaction ids.
 */
export class Turns {
  readonly #options: TurnsOptions;
  readonly #dir = mkdtempSync(join(tmpdir(), 'settlewire-turns-'));
  readonly #counter: pg.Client;
  readonly #writers = new Map<Contestant, ChildProcess>();
  /** Commits a second of each turn, by contestant. */
  readonly commits = new Map<Contestant, number[]>();

  private constructor(postgres: BenchPostgres, options: TurnsOptions) {
    this.#options = options;
    this.#counter = new pg.Client({ connectionString: postgres.url('postgres') });
    this.#counter.on('error', () => {});
  }

  /** Starts everybody's writers, and stops them. */
  static async begin(
    postgres: BenchPostgres,
    contestants: readonly Contestant[],
    options: TurnsOptions,
  ): Promise<Turns> {
    const turns = new Turns(postgres, options);
    await turns.#counter.connect();
    const script = join(turns.#dir, 'script.sql');
    writeFileSync(script, options.script);
    for (const contestant of contestants) {
      const load = { database: contestant.database, clients: options.clients };
      const writer = spawn(postgres.pgbench, pgbenchOptions(postgres, load, script, LONG), {
        ...OWN_SESSION,
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      // Stopped, in a session that is not ours, it would outlive us.
      process.on('exit', () => writer.kill('SIGKILL'));
      turns.#writers.set(contestant, writer);
      turns.commits.set(contestant, []);
      await delay(CONNECT_MS);
      turns.#signal(contestant, 'SIGSTOP');
    }
    return turns;
  }

  /** Everybody writes for so long, in their order; nothing is counted. */
  async warm(ms: number): Promise<void> {
    for (const contestant of this.#writers.keys()) await this.#turn(contestant, ms);
  }

  /** Everybody writes for a turn, beginning with number `first`. */
  async round(first: number): Promise<void> {
    const contestants = [...this.#writers.keys()];
    for (const index of contestants.keys()) {
      const contestant = contestants[(first + index) % contestants.length] as Contestant;
      const commits = await this.#turn(contestant, this.#options.turnMs);
      this.commits.get(contestant)?.push(commits);
    }
  }

  /** Ends the writers; the helpers go on. */
  async end(): Promise<void> {
    for (const [contestant, writer] of this.#writers) {
      for (const pid of contestant.helpers) process.kill(pid, 'SIGCONT');
      if (writer.exitCode !== null || writer.signalCode !== null) continue;
      const ended = once(writer, 'exit');
      writer.kill('SIGCONT');
      writer.kill();
      await ended;
    }
    await this.#counter.end();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** @returns commits a second */
  async #turn(contestant: Contestant, ms: number): Promise<number> {
    const writer = this.#writers.get(contestant);
    if (writer?.exitCode !== null) throw new Error(`pgbench has ended on ${contestant.database}`);
    this.#signal(contestant, 'SIGCONT');
    await delay(this.#options.trimMs);
    const [before, beganMs] = [await this.#transactions(), performance.now()];
    await delay(ms - this.#options.trimMs);
    const [after, endedMs] = [await this.#transactions(), performance.now()];
    writer.kill('SIGSTOP');
    await delay(FINISH_MS);
    this.#signal(contestant, 'SIGSTOP');
    return ((after - before) * 1000) / (endedMs - beganMs);
  }

  #signal(contestant: Contestant, signal: 'SIGSTOP' | 'SIGCONT'): void {
    for (const pid of contestant.helpers) process.kill(pid, signal);
    this.#writers.get(contestant)?.kill(signal);
  }

  async #transactions(): Promise<number> {
    const { rows } = await this.#counter.query(
      'select pg_snapshot_xmax(pg_current_snapshot())::text as next',
    );
    return Number(rows[0].next);
  }
}
