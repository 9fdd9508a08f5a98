import { fork } from 'node:child_process';
import { once } from 'node:events';
import { OWN_SESSION } from './own-session.ts';

/** A part of a benchmark in a process of its own, so that its work is not done on the event loop that is measured. */
export interface Part<Report> {
  readonly pid: number;
  /** What it has seen so far. */
  report(): Promise<Report>;
  stop(): Promise<void>;
}

/** Starts a file that calls {@link servePart}; resolves when it is ready. */
export async function startPart<Report>(file: URL, input: unknown): Promise<Part<Report>> {
  const child = fork(file, {
    ...OWN_SESSION,
    execArgv: ['--import', 'tsx'],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const ended = once(child, 'exit');
  const answer = async (question: unknown): Promise<unknown> => {
    const answered = once(child, 'message');
    child.send({ question });
    const first = await Promise.race([answered, ended.then(() => undefined)]);
    if (first === undefined) throw new Error(`a part of the benchmark has ended: ${file.pathname}`);
    return first[0];
  };
  await answer(input);
  return {
    pid: child.pid ?? 0,
    report: async () => (await answer('report')) as Report,
    stop: async () => {
      if (child.connected) child.disconnect();
      await ended;
    },
  };
}

/** In the child: `start` begins the work and resolves when it is under way; what it returns tells what has been seen so far. */
export function servePart<Input, Report>(
  start: (input: Input) => Promise<() => Report | Promise<Report>>,
): void {
  let report: (() => Report | Promise<Report>) | undefined;
  process.on('message', async ({ question }: { question: Input }) => {
    if (report === undefined) {
      report = await start(question);
      process.send?.('ready');
    } else process.send?.(await report());
  });
  process.on('disconnect', () => process.exit());
}

/** Microseconds of a clock that all processes of the machine share. */
export function nowMicroseconds(): number {
  return Number(process.hrtime.bigint() / 1000n);
}
