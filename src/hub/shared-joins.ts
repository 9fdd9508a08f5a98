import { Chunk } from '../sse/chunk.ts';

interface Join {
  readonly parts: readonly Chunk[];
  readonly joined: Chunk;
}

/**
 * Past frames that several subscribers take at about the same time are joined once, and written from one buffer: a herd that comes back
 * together is behind by the same frames. What was joined is forgotten with the turn of the event loop, so it lives no longer than the
 * sockets need it.
 */
export class SharedJoins {
  #byFirst = new Map<Chunk, Join[]>();
  #hits = 0;

  /** Joins that were shared. */
  get hits(): number {
    return this.#hits;
  }

  /** As {@link Chunk.join}; whoever joins the same parts in the same turn gets the same chunk. */
  join(parts: readonly Chunk[]): Chunk {
    const [first] = parts;
    if (first === undefined || parts.length === 1) return Chunk.join(parts);
    const joins = this.#byFirst.get(first) ?? [];
    const known = joins.find((join) => isSame(join.parts, parts));
    if (known !== undefined) {
      this.#hits += 1;
      return known.joined;
    }
    if (this.#byFirst.size === 0) setImmediate(this.#forget);
    const joined = Chunk.join(parts);
    this.#byFirst.set(first, [...joins, { parts, joined }]);
    return joined;
  }

  /**
   * Not by clear(), which leaves a table behind that knows the next one and keeps what it held: once one of them is old, all that come after it
   * wait for a full collection, with every joined page. That was up to 87 MiB in a run of `npm run bench:replay`.
   */
  readonly #forget = (): void => {
    this.#byFirst = new Map();
  };
}

function isSame(some: readonly Chunk[], others: readonly Chunk[]): boolean {
  return some.length === others.length && some.every((part, index) => part === others[index]);
}
