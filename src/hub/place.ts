import type { Chunk } from '../sse/chunk.ts';
import type { Frame } from '../sse/frame.ts';
import type { Bundle } from './bundle.ts';
import type { DisconnectReason } from './disconnect-reason.ts';
import type { Stretch } from './past.ts';
import type { SharedBytes } from './shared-bytes.ts';
import type { SharedJoins } from './shared-joins.ts';
import type { Subscription } from './subscription.ts';

export interface PlaceOptions {
  readonly subscription: Subscription;
  /** Where the subscription begins: later access events change it. */
  readonly cursor: number;
  /** The id of the last event that the client has, at or above `cursor`; nothing up to there is delivered. */
  readonly has: number;
  /** The subscription hears another topic, or no longer hears one. */
  readonly accessChanged: (topic: string) => void;
}

/**
 * Where a subscriber is in the order of events, and what its subscription lets through from there on. Frames are taken in their order, each
 * once, live or replayed; whatever is taken moves the cursor. After a frame that gives a reason to end, none is taken.
 */
export class Place {
  readonly #subscription: Subscription;
  readonly #has: number;
  readonly #accessChanged: (topic: string) => void;
  #cursor: number;
  #sentId: number;
  #endReason: DisconnectReason | undefined;

  constructor({ subscription, cursor, has, accessChanged }: PlaceOptions) {
    this.#subscription = subscription;
    this.#has = has;
    this.#accessChanged = accessChanged;
    this.#cursor = cursor;
    this.#sentId = has;
  }

  get cursor(): number {
    return this.#cursor;
  }

  /** The last id that the client was sent, or was told it has. */
  get sentId(): number {
    return this.#sentId;
  }

  /** Why the stream ends with the last frame taken. */
  get endReason(): DisconnectReason | undefined {
    return this.#endReason;
  }

  /** The client is told that it has everything up to this id. */
  tell(id: number): number {
    this.#sentId = Math.max(id, this.#has);
    return this.#sentId;
  }

  /**
   * Takes a bundle of which the client gets all if there is nothing to decide frame by frame, and room for it, in bytes: what nearly
   * every subscriber does with nearly every batch.
   * @returns whether it was taken
   */
  takeWhole({ first, last, length }: Bundle, room: number): boolean {
    if (length > room || first.access !== undefined || first.id <= this.#cursor || first.id <= this.#has)
      return false;
    this.#cursor = last.id;
    this.#sentId = last.id;
    return true;
  }

  /** Takes frames one by one, up to the first that does not fit: the cursor stays right before that one. */
  takeEach(frames: readonly Frame[], room: number, nothing: SharedBytes): SharedBytes {
    let taken = nothing;
    for (const frame of frames) {
      if (frame.id <= this.#cursor) continue;
      if (taken.length + frame.chunk.length > room) {
        this.#cursor = frame.id - 1;
        break;
      }
      if (this.#take(frame)) taken = taken.follow(frame);
      if (this.#endReason !== undefined) break;
    }
    return taken;
  }

  /** Takes past frames, up to the first that does not fit, but at least one; what the client gets, if anything, as one chunk. */
  takeStretch({ frames, reached, asked }: Stretch, room: number, joins: SharedJoins): Chunk | undefined {
    const { heard } = this.#subscription;
    const parts: Chunk[] = [];
    let size = 0;
    for (const frame of frames) {
      if (size > 0 && size + frame.chunk.length > room) return joins.join(parts);
      if (heard !== 'all' && !heard.has(frame.topic)) {
        this.#cursor = frame.id;
        continue;
      }
      if (this.#take(frame)) {
        parts.push(frame.chunk);
        size += frame.chunk.length;
      }
      // A topic gained here was not asked for: the rest of the page lacks it.
      const gained =
        asked !== undefined && frame.access?.kind === 'granted' && !asked.includes(frame.access.topic);
      if (this.#endReason !== undefined || gained) return size > 0 ? joins.join(parts) : undefined;
    }
    if (reached !== undefined) this.#cursor = reached;
    return size > 0 ? joins.join(parts) : undefined;
  }

  /** Applies a frame to the subscription; returns whether the client gets it. */
  #take(frame: Frame): boolean {
    this.#cursor = frame.id;
    const effect = this.#subscription.apply(frame);
    if (frame.access !== undefined && 'topic' in frame.access) this.#accessChanged(frame.access.topic);
    if (effect === 'end-session') this.#endReason = 'session_revoked';
    if (effect === 'deliver-and-end' || effect === 'skip-and-end') this.#endReason = 'access_revoked';
    const wanted = (effect === 'deliver' || effect === 'deliver-and-end') && frame.id > this.#has;
    if (wanted) this.#sentId = frame.id;
    return wanted;
  }
}
