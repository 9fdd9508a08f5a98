/** How many streams may be open at once, in this process and for one actor in it. Counted in one turn, so a burst cannot overshoot. */
export class ConnectionLimits {
  readonly #maxTotal: number;
  readonly #maxPerActor: number;
  readonly #byActor = new Map<string, { streams: number }>();
  #total = 0;

  constructor({
    maxConnections,
    maxConnectionsPerActor,
  }: { maxConnections: number; maxConnectionsPerActor: number }) {
    this.#maxTotal = maxConnections;
    this.#maxPerActor = maxConnectionsPerActor;
  }

  get total(): number {
    return this.#total;
  }

  /**
   * Takes a place.
   * @param actor whoever is asking, by a name that all their credentials share
   * @returns what gives it back, which may be called more than once; undefined if there is none left
   */
  take(actor: string): (() => void) | undefined {
    const theirs = this.#byActor.get(actor) ?? { streams: 0 };
    if (this.#total >= this.#maxTotal || theirs.streams >= this.#maxPerActor) return undefined;
    this.#total += 1;
    theirs.streams += 1;
    this.#byActor.set(actor, theirs);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#total -= 1;
      theirs.streams -= 1;
      if (theirs.streams === 0) this.#byActor.delete(actor);
    };
  }
}
