import type { Subscriber } from './subscriber.ts';

const NOBODY: ReadonlySet<Subscriber> = new Set();

/**
 * Those who hear a topic: who is given its events, and who only watches for changes of access among them, as a session does on topics
 * of its user that it has not asked for. Kept apart, so that an event costs nobody a look at what they have subscribed to.
 */
export class Audience {
  #given: Set<Subscriber> | undefined;
  #watching: Set<Subscriber> | undefined;

  get given(): ReadonlySet<Subscriber> {
    return this.#given ?? NOBODY;
  }

  /** All of them, as they are now. */
  everybody(): Subscriber[] {
    return [...this.given, ...(this.#watching ?? NOBODY)];
  }

  get size(): number {
    return this.given.size + (this.#watching?.size ?? 0);
  }

  /** Adds a subscriber, or moves it to where it belongs now. */
  put(subscriber: Subscriber, given: boolean): void {
    if (given) {
      this.#watching?.delete(subscriber);
      this.#given ??= new Set();
      this.#given.add(subscriber);
    } else {
      this.#given?.delete(subscriber);
      this.#watching ??= new Set();
      this.#watching.add(subscriber);
    }
  }

  delete(subscriber: Subscriber): void {
    this.#given?.delete(subscriber);
    this.#watching?.delete(subscriber);
  }
}
