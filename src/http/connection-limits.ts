/** How many streams may be open at once, in this process and for one actor in it. Counted in one turn, so a burst cannot overshoot. */
export class ConnectionLimits {
  readonly #maxTotal: number;
  readonly #maxPerActor: number;
  readonly #byActor = new Map<string, number>();
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
    const theirs = this.#byActor.get(actor) ?? 0;
    if (this.#total >= this.#maxTotal || theirs >= this.#maxPerActor) return undefined;
    this.#total += 1;
    this.#byActor.set(actor, theirs + 1);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#total -= 1;
      const left = (this.#byActor.get(actor) ?? 1) - 1;
      if (left === 0) this.#byActor.delete(actor);
      else this.#byActor.set(actor, left);
    };
  }
}
