import type { Worker } from 'node:cluster';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { MetricFamily } from '../admin/process-metrics.ts';
import type { Question, Questions, ToSupervisor, ToWorker } from './questions.ts';

/** `starting` until it is ready, `leaving` once it has been told to stop, `gone` when its process has ended. */
export type MemberState = 'starting' | 'ready' | 'leaving' | 'gone';

interface Asked {
  readonly resolve: (answer: Questions[Question]['answer']) => void;
  readonly reject: (error: Error) => void;
}

/** How a worker's process ended. */
export interface Ending {
  /** The signal or the exit code, in words. */
  readonly how: string;
  /** What it was at that moment. */
  readonly was: MemberState;
}

/** A worker that does not answer for so long is left out, in milliseconds. Revocations wait for relays, 2 s at most. */
const PATIENCE_MS = 4000;

/** What a process said before it ended is read within so long, in milliseconds. */
const LAST_WORDS_MS = 50;

/** One worker, as its supervisor sees it. */
export class Member {
  readonly #worker: Worker;
  readonly #asked = new Map<number, Asked>();
  /** Connections that it has been given and has not taken. */
  readonly #offered = new Map<number, { readonly socket: Socket; readonly at: number }>();
  /** What it is to be told once it listens; undefined since it does. */
  #unsaid: [ToWorker, Socket | undefined][] | undefined = [];
  #last = 0;
  #open = 0;
  state: MemberState = 'starting';
  /** What it had counted when it was asked last. */
  counted: readonly MetricFamily[] = [];
  /** Resolves when the process has ended, after its last message. */
  readonly ended: Promise<Ending>;

  constructor(worker: Worker) {
    this.#worker = worker;
    // What could not be sent any more: the end follows.
    worker.on('error', () => {});
    worker.on('message', (message: ToSupervisor) => this.#hear(message));
    this.ended = this.#untilEnded();
  }

  get number(): number {
    return this.#worker.id;
  }

  get pid(): number | undefined {
    return this.#worker.process.pid;
  }

  /** Connections that it has or is about to have. */
  get connections(): number {
    return this.#open;
  }

  /** How long the oldest of these has waited, in milliseconds; 0 if there is none. */
  get silentMs(): number {
    const [oldest] = this.#offered.values();
    return oldest === undefined ? 0 : performance.now() - oldest.at;
  }

  /** Connections that it has been given and has not taken. */
  get offered(): number {
    return this.#offered.size;
  }

  /** @throws what the worker says, or that it has ended; with `patient` false also that it does not answer */
  ask<Q extends Question>(
    question: Q,
    given: Questions[Q]['given'],
    { patient = false }: { patient?: boolean } = {},
  ): Promise<Questions[Q]['answer']> {
    this.#last += 1;
    const number = this.#last;
    let impatience: NodeJS.Timeout | undefined;
    return new Promise<Questions[Q]['answer']>((resolve, reject) => {
      if (this.state === 'gone') return reject(new Error(`worker ${this.number} has ended`));
      this.#asked.set(number, { resolve, reject });
      const silent = (): void => reject(new Error(`worker ${this.number} does not answer`));
      if (!patient) impatience = setTimeout(silent, PATIENCE_MS);
      this.#send({ kind: 'question', number, question, given } as ToWorker);
    }).finally(() => {
      clearTimeout(impatience);
      this.#asked.delete(number);
    });
  }

  /** Gives it a connection, nothing of which has been read. It stays open here until the worker has taken it. */
  offer(socket: Socket): void {
    this.#last += 1;
    this.#open += 1;
    this.#offered.set(this.#last, { socket, at: performance.now() });
    this.#send({ kind: 'connection', number: this.#last }, socket);
  }

  /** Those that it has not taken, for somebody else. */
  untaken(): Socket[] {
    const sockets = [...this.#offered.values()].map(({ socket }) => socket);
    this.#offered.clear();
    return sockets;
  }

  kill(): void {
    this.#worker.process.kill('SIGKILL');
  }

  #send(message: ToWorker, socket?: Socket): void {
    if (this.#unsaid !== undefined) this.#unsaid.push([message, socket]);
    else this.#worker.send(message, socket, { keepOpen: true }, () => {});
  }

  #begin(): void {
    const unsaid = this.#unsaid ?? [];
    this.#unsaid = undefined;
    for (const [message, socket] of unsaid) this.#send(message, socket);
  }

  #hear(message: ToSupervisor): void {
    if (message.kind === 'here') this.#begin();
    else if (message.kind === 'closed') this.#open -= message.count;
    else if (message.kind === 'took') {
      this.#offered.get(message.number)?.socket.destroy();
      this.#offered.delete(message.number);
    } else {
      const asked = this.#asked.get(message.number);
      if (message.kind === 'answer') asked?.resolve(message.answer);
      else asked?.reject(Object.assign(new Error(message.message), { code: message.code }));
    }
  }

  async #untilEnded(): Promise<Ending> {
    const how = await new Promise<string>((resolve) => {
      this.#worker.once('exit', (code: number, signal: string) => resolve(signal || `exit code ${code}`));
    });
    // What it said last may still be on its way. That there is no more one is not always told ('disconnect') of a channel with a socket in it.
    await delay(LAST_WORDS_MS);
    const was = this.state;
    this.state = 'gone';
    for (const { reject } of this.#asked.values())
      reject(new Error(`worker ${this.number} has ended: ${how}`));
    return { how, was };
  }
}
