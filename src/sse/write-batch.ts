import { writeNow } from './direct-write.ts';

/** Sees to the bytes of which the kernel has taken only so many. */
export interface Writer {
  writeRest(bytes: Buffer, taken: number): void;
}

/**
 * Writes to many sockets that go out together. Who gets what is decided for all of them first; then one loop writes, and touches nothing of a
 * subscriber but a number. When each is written to as soon as it is decided, the kernel's work for one socket drives out of the processor's
 * caches what the decision for the next needs: see docs/benchmarks.md, "Fan-out".
 *
 * To be filled and flushed in one step of the event loop, in which no socket is destroyed: so each descriptor is still its writer's own. A
 * writer is in it once, and has it flushed before it writes anything else: so its bytes keep their place.
 */
export class WriteBatch {
  #size = 0;
  #round = 0;
  // Kept, so that a batch allocates nothing per writer.
  readonly #descriptors: number[] = [];
  readonly #bytes: (Buffer | undefined)[] = [];
  readonly #writers: (Writer | undefined)[] = [];

  /** Another number after each flush: a writer that was added in this round still waits. */
  get round(): number {
    return this.#round;
  }

  /** @param descriptor of a socket that may be written to directly */
  add(descriptor: number, bytes: Buffer, writer: Writer): void {
    const at = this.#size;
    this.#size += 1;
    this.#descriptors[at] = descriptor;
    this.#bytes[at] = bytes;
    this.#writers[at] = writer;
  }

  /** Writes everything, in the order in which it was added. */
  flush(): void {
    const size = this.#size;
    this.#size = 0;
    this.#round += 1;
    try {
      for (let at = 0; at < size; at += 1) {
        const bytes = this.#bytes[at] as Buffer;
        const taken = writeNow(this.#descriptors[at] as number, bytes);
        if (taken < bytes.length) this.#writers[at]?.writeRest(bytes, taken);
      }
    } finally {
      this.#bytes.fill(undefined, 0, size);
      this.#writers.fill(undefined, 0, size);
    }
  }
}
