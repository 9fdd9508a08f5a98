import type { Worker } from 'node:cluster';
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { Config } from '../config.ts';
import { Service } from '../service.ts';
import type { Question, Questions, StartOrder, ToSupervisor, ToWorker } from './questions.ts';
import { shareOf } from './share.ts';

/*
 * A forked process: one service without ports, which does what its supervisor asks. Signals are the supervisor's business: a terminal's
 * Ctrl-C and a service manager's SIGTERM reach every process of a group. When the supervisor is gone, however it went, the channel
 * to it closes, and node:cluster ends this process.
 */

export interface WorkerOptions {
  /** Of the whole instance. */
  readonly config: Config;
  readonly log: Logger;
  /** The supervisor's end. */
  readonly worker: Worker;
}

/** Serves until the supervisor says stop. */
export async function work({ config, log, worker }: WorkerOptions): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
  // What could not be said any more: the supervisor has gone, and this process follows.
  worker.on('error', () => {});
  const duty = new Duty(shareOf(config), log);
  worker.on('disconnect', () => {
    if (!duty.over) log.warn('the supervisor has gone; so does this worker');
  });
  await new Promise<void>((resolve) => {
    process.on('message', (message: ToWorker, socket?: Socket) => {
      if (message.kind === 'connection') {
        // Told first: what it has not been told of, the supervisor gives to another worker when this one dies.
        tell({ kind: 'took', number: message.number });
        duty.take(socket);
      } else void answer(duty, message).then(() => duty.over && resolve());
    });
    tell({ kind: 'here' });
  });
  worker.disconnect();
}

async function answer(
  duty: Duty,
  { number, question, given }: Extract<ToWorker, { kind: 'question' }>,
): Promise<void> {
  try {
    const handle = duty.answers[question] as (given: unknown) => Promise<Questions[Question]['answer']>;
    await tell({ kind: 'answer', number, answer: await handle(given) });
  } catch (error) {
    const { message, code } = error as { message?: string; code?: unknown };
    await tell({
      kind: 'error',
      number,
      message: message || String(error),
      code: typeof code === 'string' ? code : undefined,
    });
  }
}

/** Resolves when it is on its way; nobody may be listening any more. */
function tell(message: ToSupervisor): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve());
    else resolve();
  });
}

type Answers = {
  readonly [Q in Question]: (given: Questions[Q]['given']) => Promise<Questions[Q]['answer']>;
};

/** What the worker does, as it is asked. */
class Duty {
  readonly #config: Config;
  readonly #log: Logger;
  #service: Service | undefined;
  #starting: Promise<void> | undefined;
  #closed = 0;
  over = false;

  constructor(config: Config, log: Logger) {
    this.#config = config;
    this.#log = log;
  }

  readonly answers: Answers = {
    start: (order) => this.#start(order),
    condition: async () => this.#started.condition,
    metrics: () => this.#started.metrics.families(),
    subscriptions: (page) => this.#started.answers.subscriptions(page),
    revoked: (stored) => this.#started.answers.revoked(stored),
    stop: () => this.#stop(),
  };

  get #started(): Service {
    if (this.#service === undefined) throw new Error('not started');
    return this.#service;
  }

  /** @param socket undefined if the client has gone meanwhile */
  take(socket: Socket | undefined): void {
    if (socket === undefined) this.#countClosed();
    else {
      socket.once('close', () => this.#countClosed());
      this.#started.take(socket);
    }
  }

  /** Those that close in one turn are told of together. */
  #countClosed(): void {
    this.#closed += 1;
    if (this.#closed > 1) return;
    setImmediate(() => {
      void tell({ kind: 'closed', count: this.#closed });
      this.#closed = 0;
    });
  }

  async #start({ databaseUrl, worker }: StartOrder): Promise<null> {
    this.#service = new Service({ config: this.#config, databaseUrl, log: this.#log, worker });
    this.#starting = this.#service.start();
    try {
      await this.#starting;
    } catch (error) {
      await this.#end();
      throw error;
    }
    return null;
  }

  async #stop(): Promise<Questions['stop']['answer']> {
    await this.#end();
    return this.#service?.metrics.families() ?? [];
  }

  async #end(): Promise<void> {
    await this.#service?.stop();
    await Promise.allSettled([this.#starting]);
    this.over = true;
  }
}
