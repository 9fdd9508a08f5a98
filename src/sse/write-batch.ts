import { writeNow } from './direct-write.ts';

/** Takes what the kernel did not. */
export interface Writer {
  writeRest(bytes: Buffer): void;
}

/**
 * Writes to many sockets that go out together. Who gets what is decided for all of them first; then one loop writes, and touches nothing of a
 * subscriber but a number. When each is written to as soon as it is decided, the kernel's work for one socket drives out of the processor's
 * caches what the decision for the next needs: see docs/benchmarks.md, "Fan-out".
 *
 * To be filled and flushed in one step of the event loop, each writer in it once and not written to otherwise in between: so its bytes keep
 * their place, and its descriptor is still its own.
 */
export class WriteBatch {
  #size = 0;
  // Kept, so that a batch allocates nothing per writer.
  readonly #descriptors: number[] = [];
  readonly #bytes: (Buffer | undefined)[] = [];
  readonly #writers: (Writer | undefined)[] = [];

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
    for (let at = 0; at < size; at += 1) {
      const bytes = this.#bytes[at] as Buffer;
      const taken = writeNow(this.#descriptors[at] as number, bytes);
      if (taken < bytes.length) this.#writers[at]?.writeRest(bytes.subarray(taken));
    }
    this.#bytes.fill(undefined, 0, size);
    this.#writers.fill(undefined, 0, size);
  }
}
