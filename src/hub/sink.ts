import type { Chunk } from '../sse/chunk.ts';
import type { WriteBatch } from '../sse/write-batch.ts';

/** Where the bytes of one subscriber go. */
export interface Sink {
  /** Bytes written that the kernel has not taken yet. */
  readonly buffered: number;
  /** @param batch with which the bytes may go out, if this is all that is written here before it is flushed */
  write(chunk: Chunk, batch?: WriteBatch): void;
  /** Resolves when nothing waits any more, or when the sink has closed. */
  drained(): Promise<void>;
  /** Writes the last bytes and closes. */
  end(chunk: Chunk): void;
}
