import type { CredentialsRevoked } from '../outbox/access-change.ts';
import { caughtUpFrame, cursorFrame, disconnectFrame, type Frame, HEARTBEAT } from '../sse/frame.ts';
import type { WriteBatch } from '../sse/write-batch.ts';
import type { Bundle } from './bundle.ts';
import type { DisconnectReason } from './disconnect-reason.ts';
import type { Hub } from './hub.ts';
import { Past, type PastPages } from './past.ts';
import { Place } from './place.ts';
import type { SharedBytes } from './shared-bytes.ts';
import type { Sink } from './sink.ts';
import type { Subscription } from './subscription.ts';

/*
 * From replay to live, without a seam.
 *
 * A subscriber has a cursor: it has been given every event of its topics up to there. It is in one of two states.
 *
 *   replaying  It takes frames after its cursor, from the hub's window or from the database, a page at a time, each when its socket
 *              has drained. Live events pass it by; they are in the window or the database, at or below the hub's cursor.
 *   live       Its cursor and the hub's mean the same; it takes every frame that the hub offers.
 *
 * It turns live when it finds its cursor at the hub's, in the same turn of the event loop: the hub dispatches within one turn, so
 * no event falls between. It turns back to replaying when a frame does not fit its socket's buffer; that frame and all after it
 * are replayed. So memory per subscriber is bounded, nothing is skipped, and a slow socket sets its own pace.
 *
 * A client that was with another instance may come with a cursor ahead of this hub's, or claim to. It is live at once, and frames
 * at or below what it has are not for it; but they are looked at, since one of them may take a topic away.
 */

export interface SubscriberOptions {
  readonly hub: Hub;
  readonly sink: Sink;
  readonly subscription: Subscription;
  /** Where the subscription begins, at or below the hub's cursor: later access events change it. */
  readonly cursor: number;
  /** The id of the last event that the client has, at or above `cursor`; nothing up to there is delivered. */
  readonly has: number;
  /** Where it reads what the hub's window no longer holds. */
  readonly pages: PastPages;
  /** Most bytes that may wait for the socket. */
  readonly bufferBytes: number;
  /** A jittered time in milliseconds after which a client that was disconnected should come back. */
  readonly retryMs: () => number;
  /** The server ended the stream. */
  readonly onEnd: (reason: DisconnectReason) => void;
  /** The replay failed; the subscriber is disconnected as `unavailable`. */
  readonly onReplayError: (error: unknown) => void;
}

/** One SSE connection, as the hub sees it. */
export class Subscriber {
  readonly #options: SubscriberOptions;
  readonly #sink: Sink;
  readonly #bufferBytes: number;
  readonly #place: Place;
  #state: 'replaying' | 'live' | 'ended' = 'replaying';
  #caughtUp = false;
  /** What is being dispatched: one bundle, and perhaps others of other topics. */
  #offered: Bundle | undefined;
  #offeredToo: Bundle[] | undefined;

  constructor(options: SubscriberOptions) {
    this.#options = options;
    const { subscription, cursor, has, hub, sink, bufferBytes } = options;
    this.#sink = sink;
    this.#bufferBytes = bufferBytes;
    this.#place = new Place({
      subscription,
      cursor,
      has,
      accessChanged: (topic) => hub.accessChanged(this, topic),
    });
  }

  /** The topics that the hub must offer. */
  get heard(): ReadonlySet<string> | 'all' {
    return this.#options.subscription.heard;
  }

  get state(): 'replaying' | 'live' | 'ended' {
    return this.#state;
  }

  get cursor(): number {
    return this.#place.cursor;
  }

  /** Bytes that wait for the socket. */
  get buffered(): number {
    return this.#sink.buffered;
  }

  /** Joins the hub and begins to replay. */
  start(): void {
    this.#options.hub.add(this);
    void this.#catchUp();
  }

  /** Whether the client is given the events of a topic that it hears. */
  isGiven(topic: string): boolean {
    return this.#options.subscription.has(topic);
  }

  /**
   * Takes a bundle, the only one for it in what is being dispatched, and writes it in one write. It has no part of which the client
   * gets nothing, but where it changes access.
   * @param nothing the common beginning of all who take something now
   * @param batch what goes out when all have taken
   */
  take(bundle: Bundle, nothing: SharedBytes, batch: WriteBatch): void {
    if (this.#state !== 'live') return;
    const room = this.#bufferBytes - this.#sink.buffered;
    if (this.#place.takeWhole(bundle, room)) this.#sink.write(bundle.chunk(), batch);
    else this.#takeEach(bundle.frames, room, nothing, batch);
  }

  /**
   * Notes one of several bundles that are being dispatched.
   * @returns whether it is the first one, so that the subscriber must be flushed
   */
  offer(bundle: Bundle): boolean {
    if (this.#state !== 'live') return false;
    if (this.#offered === undefined) {
      this.#offered = bundle;
      return true;
    }
    this.#offeredToo ??= [];
    this.#offeredToo.push(bundle);
    return false;
  }

  /** Takes what was offered, as in {@link take}. */
  flush(nothing: SharedBytes, batch: WriteBatch): void {
    const offered = this.#offered;
    const offeredToo = this.#offeredToo;
    this.#offered = undefined;
    this.#offeredToo = undefined;
    if (offered === undefined || this.#state !== 'live') return;
    if (offeredToo === undefined) {
      this.take(offered, nothing, batch);
      return;
    }
    const frames = [offered, ...offeredToo].flatMap((bundle) => bundle.frames).sort((a, b) => a.id - b.id);
    this.#takeEach(frames, this.#bufferBytes - this.#sink.buffered, nothing, batch);
  }

  /** Takes what fits; what does not, and all after it, is replayed. */
  #takeEach(frames: readonly Frame[], room: number, nothing: SharedBytes, batch: WriteBatch): void {
    const taken = this.#place.takeEach(frames, room, nothing);
    const { endReason, cursor } = this.#place;
    const replays = cursor < (frames.at(-1)?.id ?? 0);
    // Whoever replays looks at what waits for its socket before the batch goes out; whoever ends may be gone by then.
    const alone = replays || endReason !== undefined;
    if (taken.length > 0) this.#sink.write(taken.chunk(), alone ? undefined : batch);
    if (endReason !== undefined) this.end(endReason);
    else if (replays) {
      this.#state = 'replaying';
      void this.#catchUp();
    }
  }

  /** Keeps the connection alive and a quiet client's cursor close to the head. To be called every heartbeat interval. */
  heartbeat(): void {
    const { hub } = this.#options;
    const sink = this.#sink;
    if (this.#state === 'ended' || sink.buffered > 0) return;
    if (this.#state === 'live' && hub.cursor > this.#place.sentId) {
      sink.write(cursorFrame(this.#place.tell(hub.cursor)));
    } else {
      sink.write(HEARTBEAT);
    }
  }

  /** Ends the stream and tells the client why; if that fails, at least the connection goes: nobody is left on it who hears nothing any more. */
  end(reason: DisconnectReason): void {
    if (this.#state === 'ended') return;
    this.closed();
    this.#options.onEnd(reason);
    try {
      this.#sink.end(disconnectFrame(reason, this.#options.retryMs()));
    } catch {
      this.#sink.cut();
    }
  }

  /** Ends the stream if its credential is among those revoked. */
  revoke(topic: string, change: CredentialsRevoked): void {
    if (this.#options.subscription.isRevokedBy(topic, change)) this.end('session_revoked');
  }

  /** The connection has gone: leaves the hub. */
  closed(): void {
    this.#state = 'ended';
    this.#options.hub.remove(this);
  }

  /** Runs once for each time that the subscriber is replaying: its last step turns it live, or ends it, and does no more. */
  async #catchUp(): Promise<void> {
    const past = new Past(this.#options.hub, this.#options.pages);
    try {
      while (await this.#catchUpStep(past));
    } catch (error) {
      this.#options.onReplayError(error);
      this.end('unavailable');
    } finally {
      past.leave();
    }
  }

  /** @returns whether there is more to replay */
  async #catchUpStep(past: Past): Promise<boolean> {
    const { hub, sink, bufferBytes } = this.#options;
    await sink.drained();
    if (this.#state === 'replaying' && this.cursor < hub.cursor) await hub.turns.take();
    if (this.#state !== 'replaying') return false;
    const after = this.cursor;
    const through = hub.cursor;
    if (after >= through) {
      this.#goLive();
      return false;
    }
    let stretch = past.fromWindow(after, through);
    if (stretch === undefined) {
      stretch = await past.fromDatabase(this.heard, after, through);
      await hub.turns.take();
      if (this.#state !== 'replaying') return false;
      // Retention has passed the cursor: the client is told so when it comes back, with its access looked up anew.
      if (stretch === undefined) {
        this.end('unavailable');
        return false;
      }
    }
    const chunk = this.#place.takeStretch(stretch, bufferBytes - sink.buffered, hub.joins);
    if (chunk !== undefined) sink.write(chunk);
    if (this.#place.endReason !== undefined) {
      this.end(this.#place.endReason);
      return false;
    }
    // Not for one who is slow: what waits for its socket is its share of the memory.
    if (sink.buffered === 0) past.readAhead(this.heard, this.cursor);
    return true;
  }

  #goLive(): void {
    this.#state = 'live';
    if (this.#caughtUp) return;
    this.#caughtUp = true;
    this.#sink.write(caughtUpFrame(this.#place.tell(this.cursor)));
  }
}
