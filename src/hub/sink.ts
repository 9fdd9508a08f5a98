import type { Chunk } from '../sse/chunk.ts';

/** Where the bytes of one subscriber go. */
export interface Sink {
  /** Bytes written that the kernel has not taken yet. */
  readonly buffered: number;
  write(chunk: Chunk): void;
  /** Resolves when nothing waits any more, or when the sink has closed. */
  drained(): Promise<void>;
  /** Writes the last bytes and closes. */
  end(chunk: Chunk): void;
}
