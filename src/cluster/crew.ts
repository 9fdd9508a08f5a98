import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { MetricFamily } from '../admin/process-metrics.ts';
import { backoffMs } from './backoff.ts';
import type { Ending, Member } from './member.ts';
import type { Question, Questions } from './questions.ts';
import { countsOf, Totals } from './totals.ts';

/*
 * The workers of an instance: so many are always there.
 *
 * At first all must get ready; one that cannot ends the whole, since the others could not either. From then on one that dies is
 * replaced, after a pause that doubles with each that dies young; a successor that does not get ready is one of those. A rolling
 * restart takes one after the other: the new one is ready before the old one is told to go; where a new one cannot start, the old
 * ones stay.
 */

/** Why a worker's process ended. */
export const EXITS = ['crashed', 'failed', 'rolled', 'stopped'] as const;
export type Exit = (typeof EXITS)[number];

export interface CrewOptions {
  readonly size: number;
  readonly databaseUrl: string;
  /** Longest time that a worker may take to leave, in milliseconds; then it is killed. */
  readonly leaveMs: number;
  /** Longest time that a worker may say nothing, in milliseconds; then it is killed. */
  readonly silenceMs: number;
  readonly log: Logger;
  readonly fork: () => Member;
  /** Called when a worker has gone. */
  readonly onGone: (member: Member) => void;
  /** Milliseconds of a clock that never goes back. */
  readonly clock: () => number;
}

/** Who has been ready for so long did not die young, in milliseconds. */
const GROWN_UP_MS = 60_000;

/** What has been said is heard within so long, in milliseconds. */
const CATCH_UP_MS = 100;

export class Crew {
  readonly #options: CrewOptions;
  readonly #members = new Set<Member>();
  readonly #over = new AbortController();
  readonly #exits = new Map<Exit, number>();
  readonly totals = new Totals();
  #deaths = 0;
  #rolling: Promise<void> | undefined;
  #again = false;
  /** The one whose successor, in a rolling restart, is about to get ready. */
  #succeeded: Member | undefined;

  constructor(options: CrewOptions) {
    this.#options = options;
  }

  get members(): readonly Member[] {
    return [...this.#members];
  }

  get stopping(): boolean {
    return this.#over.signal.aborted;
  }

  exits(why: Exit): number {
    return this.#exits.get(why) ?? 0;
  }

  /** @throws what the first worker says that cannot start; the others are still there, to be stopped */
  async start(): Promise<void> {
    await Promise.all(Array.from({ length: this.#options.size }, () => this.#hire()));
  }

  /** Replaces all workers, one after the other. Asked for meanwhile, it begins once more when it is done. */
  roll(): Promise<void> {
    this.#again = true;
    this.#rolling ??= this.#rollOn().finally(() => {
      this.#rolling = undefined;
    });
    return this.#rolling;
  }

  /** Tells all to leave, at the same time; resolves when they have. */
  async stop(): Promise<void> {
    this.#over.abort();
    while (this.#members.size > 0)
      await Promise.all(this.members.map((member) => this.#dismiss(member, 'stopped')));
  }

  /** Asks all; whoever does not answer, or ends meanwhile, is left out. */
  async ask<Q extends Question>(
    question: Q,
    given: Questions[Q]['given'],
  ): Promise<{ member: Member; answer: Questions[Q]['answer'] }[]> {
    const answers = await Promise.allSettled(
      this.members.map(async (member) => ({ member, answer: await member.ask(question, given) })),
    );
    return answers.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  }

  /** What each has counted; of whoever does not answer, only the counts that it had when it last did. */
  count(): Promise<{ member: Member; answered: boolean; families: readonly MetricFamily[] }[]> {
    return Promise.all(
      this.members.map(async (member) => {
        try {
          member.counted = await member.ask('metrics', null);
          return { member, answered: true, families: member.counted };
        } catch {
          return { member, answered: false, families: countsOf(member.counted) };
        }
      }),
    );
  }

  /** Forks a worker; resolves when it is ready. */
  async #hire(): Promise<void> {
    const member = this.#options.fork();
    const { number: worker, pid } = member;
    this.#members.add(member);
    let readyAt = Number.NaN;
    void member.ended.then((ending) => this.#ended(member, ending, readyAt));
    await member.ask('start', { databaseUrl: this.#options.databaseUrl, worker }, { patient: true });
    if (member.state !== 'starting') return;
    readyAt = this.#options.clock();
    member.state = 'ready';
    this.#options.log.info({ worker, pid }, 'worker ready');
    void this.#watch(member);
  }

  /** Nobody else would notice a worker that hangs: others answer on the public port. */
  async #watch(member: Member): Promise<void> {
    const { silenceMs, log } = this.#options;
    while (member.state === 'ready') {
      let answered = false;
      const asked = member.ask('condition', null, { patient: true }).then(
        () => {
          answered = true;
        },
        () => {},
      );
      await Promise.race([asked, delay(silenceMs, undefined, { ref: false })]);
      // If it was this process that slept, the answer is here by now.
      if (!answered) await delay(CATCH_UP_MS, undefined, { ref: false });
      if (!answered && member.state === 'ready') {
        log.error({ worker: member.number, pid: member.pid }, 'a worker says nothing');
        member.kill();
        return;
      }
      await delay(silenceMs / 4, undefined, { ref: false });
    }
  }

  #ended(member: Member, { how, was }: Ending, readyAt: number): void {
    this.#members.delete(member);
    this.totals.keep(member.counted);
    this.#options.onGone(member);
    if (was === 'starting') this.#count('failed');
    if (was !== 'ready') return;
    this.#count('crashed');
    this.#options.log.error({ worker: member.number, pid: member.pid, how }, 'a worker has died');
    if (this.#options.clock() - readyAt > GROWN_UP_MS) this.#deaths = 0;
    if (member !== this.#succeeded) void this.#replace();
  }

  async #replace(): Promise<void> {
    while (!this.stopping) {
      this.#deaths += 1;
      await delay(backoffMs(this.#deaths), undefined, { signal: this.#over.signal }).catch(() => {});
      if (this.stopping || (await this.#tryToHire())) return;
    }
  }

  /** @returns false if it could not start, which is logged */
  #tryToHire(): Promise<boolean> {
    return this.#hire().then(
      () => true,
      (error: Error) => {
        if (!this.stopping) this.#options.log.error({ reason: error.message }, 'a worker could not start');
        return false;
      },
    );
  }

  async #rollOn(): Promise<void> {
    const { log } = this.#options;
    while (this.#again && !this.stopping) {
      this.#again = false;
      log.info({ workers: this.#members.size }, 'rolling restart');
      if (await this.#rollEach()) log.info({ workers: this.#members.size }, 'rolling restart done');
      else log.error('rolling restart given up: the old workers stay');
    }
  }

  /** @returns false if a new one could not start */
  async #rollEach(): Promise<boolean> {
    for (const old of this.members) {
      // One that has died since is being replaced already.
      if (old.state !== 'ready' || this.stopping) continue;
      this.#succeeded = old;
      const hired = await this.#tryToHire();
      this.#succeeded = undefined;
      if (!hired) {
        // It died meanwhile, and no successor has come.
        if (!this.#members.has(old)) void this.#replace();
        return false;
      }
      await this.#dismiss(old, 'rolled');
    }
    return true;
  }

  /** Tells a worker to leave; resolves when it has. */
  async #dismiss(member: Member, why: Exit): Promise<void> {
    if (member.state === 'starting' || member.state === 'ready') {
      member.state = 'leaving';
      this.#count(why);
      const kill = setTimeout(() => member.kill(), this.#options.leaveMs);
      void member.ended.then(() => clearTimeout(kill));
      member.counted = await member.ask('stop', null, { patient: true }).catch(() => member.counted);
    }
    await member.ended;
  }

  #count(why: Exit): void {
    this.#exits.set(why, this.exits(why) + 1);
  }
}
