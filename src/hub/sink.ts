import type { Chunk } from '../sse/chunk.ts';
import type { WriteBatch } from '../sse/write-batch.ts';

/** Where the bytes of one subscriber go. */
export interface Sink {
  /** Bytes held for a kernel that has not taken all of them yet; those in a batch count once it is flushed. */
  readonly buffered: number;
  /** @param batch with which the bytes may go out */
  write(chunk: Chunk, batch?: WriteBatch): void;
  /** Resolves when nothing waits any more, or when the sink has closed. */
  drained(): Promise<void>;
  /** Writes the last bytes and closes. */
  end(chunk: Chunk): void;
  /** Closes at once, whatever waits. */
  cut(): void;
}
