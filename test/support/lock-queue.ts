import type { Locks } from '../../src/client/client.ts';

interface Waiting {
  readonly take: () => void;
  readonly signal: AbortSignal;
}

/** What a browser's `navigator.locks` does for one exclusive lock after the other; Node has it from 24 on. */
export class LockQueue implements Locks {
  readonly #queues = new Map<string, Waiting[]>();
  readonly #held = new Set<string>();

  /** Locks that somebody has. */
  get held(): number {
    return this.#held.size;
  }

  request(name: string, { signal }: { signal: AbortSignal }, work: () => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      const take = (): void => {
        this.#held.add(name);
        void work()
          .then(resolve, reject)
          .finally(() => this.#release(name));
      };
      const queue = this.#queues.get(name) ?? [];
      this.#queues.set(name, queue);
      signal.addEventListener('abort', () => {
        const index = queue.findIndex((waiting) => waiting.take === take);
        if (index < 0) return;
        queue.splice(index, 1);
        reject(signal.reason);
      });
      queue.push({ take, signal });
      if (!this.#held.has(name)) queue.shift()?.take();
    });
  }

  #release(name: string): void {
    this.#held.delete(name);
    this.#queues.get(name)?.shift()?.take();
  }
}
