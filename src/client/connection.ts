import type { EventOf, Listeners, Oversize, Reset, Session, Status } from './events.ts';
import type { Line, Listener, Message } from './source.ts';

/** A live connection, as an application holds it. */
export interface Connection<Custom = Record<never, never>> {
  /** The id of the last event that this application has had; undefined until the stream has begun. */
  readonly cursor: number | undefined;
  readonly status: Status;
  readonly session: Session | undefined;
  /** Events that came and were not handed on, because they are not after the cursor. */
  readonly duplicates: number;
  /**
   * Listens: for one type of event, for every `event`, or for what happens to the connection.
   * @returns ends it
   */
  on<Type extends keyof Listeners<Custom>>(
    type: Type,
    listener: (it: Listeners<Custom>[Type]) => void,
  ): () => void;
  /** Ends the connection for good. */
  close(): void;
}

/**
 * What one application gets of a line: each event once, in order, from its own cursor on. On a line that tabs share, that
 * cursor may be behind the line's or ahead of it.
 */
export class Receiver implements Listener {
  readonly #listeners = new Map<string, Set<(it: unknown) => void>>();
  readonly #line: Line;
  /** The application is taking the state: nothing is handed on, and nothing counts as received. */
  #held = true;
  cursor: number | undefined;
  status: Status = { state: 'connecting' };
  session: Session | undefined;
  duplicates = 0;

  constructor(makeLine: (receiver: Receiver) => Line) {
    this.#line = makeLine(this);
  }

  on(type: string, listener: (it: never) => void): () => void {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener as (it: unknown) => void));
    return () => void listeners.delete(listener as (it: unknown) => void);
  }

  /** From now on nothing is handed on, until {@link goOn}. */
  hold(): void {
    this.#held = true;
  }

  /** Everything after this cursor, or from the head. */
  goOn(cursor: number | undefined): void {
    this.#held = false;
    this.cursor = cursor;
    this.#line.seek(cursor);
  }

  close(reason: Status['reason'] = 'closed'): void {
    this.#line.stop();
    if (this.status.state !== 'closed') this.onStatus({ state: 'closed', reason });
  }

  onStatus(status: Status): void {
    this.status = status;
    this.emit('status', status);
  }

  onMessage({ from, type, id, data }: Message): void {
    if (type === 'session') {
      this.session = data as Session;
      this.emit(type, data);
    }
    if (this.#held) return;
    this.cursor ??= from;
    if (from > this.cursor) {
      // The line is ahead: other tabs have had what this one has not.
      this.#line.seek(this.cursor);
    } else if (type === 'reset') {
      this.cursor = (data as Reset).cursor;
      this.emit(type, data);
    } else if (id !== undefined) {
      this.#moveOn(type, id, data);
    }
  }

  #moveOn(type: string, id: number, data: unknown): void {
    const cursor = this.cursor ?? 0;
    this.cursor = Math.max(cursor, id);
    if (type === 'caught-up') {
      this.emit(type, data);
    } else if (type === 'cursor') {
      // Other people's events: nothing to hand on.
    } else if (id <= cursor) {
      this.duplicates += 1;
    } else if ((data as { oversize?: true } | null)?.oversize === true) {
      this.emit('oversize', { id, type, bytes: (data as Oversize).bytes });
    } else {
      const event: EventOf<string, unknown> = { id, type, data };
      this.emit(type, event);
      this.emit('event', event);
    }
  }

  /** A listener that throws harms nobody else, and is not hidden. */
  emit(type: string, it: unknown): void {
    for (const listener of [...(this.#listeners.get(type) ?? [])]) {
      try {
        listener(it);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
