import type { CredentialsRevoked } from '../outbox/access-change.ts';
import { Chunk } from '../sse/chunk.ts';
import { caughtUpFrame, cursorFrame, disconnectFrame, type Frame, HEARTBEAT } from '../sse/frame.ts';
import type { Bundle } from './bundle.ts';
import type { DisconnectReason } from './disconnect-reason.ts';
import type { Hub } from './hub.ts';
import { Past, type PastPages, type Stretch } from './past.ts';
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
  #cursor: number;
  /** The last id that the client was sent. */
  #sentId: number;
  #state: 'replaying' | 'live' | 'ended' = 'replaying';
  #caughtUp = false;
  /** What is being dispatched: one bundle, and perhaps others of other topics. */
  #offered: Bundle | undefined;
  #offeredToo: Bundle[] | undefined;
  #endReason: DisconnectReason | undefined;

  constructor(options: SubscriberOptions) {
    this.#options = options;
    this.#cursor = options.cursor;
    this.#sentId = options.has;
  }

  /** The topics that the hub must offer. */
  get heard(): ReadonlySet<string> | 'all' {
    return this.#options.subscription.heard;
  }

  get state(): 'replaying' | 'live' | 'ended' {
    return this.#state;
  }

  get cursor(): number {
    return this.#cursor;
  }

  /** Bytes that wait for the socket. */
  get buffered(): number {
    return this.#options.sink.buffered;
  }

  /** Joins the hub and begins to replay. */
  start(): void {
    this.#options.hub.add(this);
    void this.#catchUp();
  }

  /**
   * Notes frames that are being dispatched.
   * @returns whether they are the first ones, so that the subscriber must be flushed
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

  /**
   * Takes what was offered, and writes it in one write.
   * @param nothing the common beginning of all who are flushed now
   */
  flush(nothing: SharedBytes): void {
    const offered = this.#offered;
    const offeredToo = this.#offeredToo;
    this.#offered = undefined;
    this.#offeredToo = undefined;
    if (offered === undefined || this.#state !== 'live') return;
    if (offeredToo === undefined && this.#takeWhole(offered)) return;
    const frames = [offered, ...(offeredToo ?? [])].flatMap((bundle) => bundle.frames);
    this.#takeEach(offeredToo === undefined ? frames : frames.sort((a, b) => a.id - b.id), nothing);
    if (this.#endReason !== undefined) this.end(this.#endReason);
    else if (this.state === 'replaying') void this.#catchUp();
  }

  /** Takes a bundle if there is nothing to decide frame by frame: what nearly every subscriber does with nearly every batch. */
  #takeWhole(bundle: Bundle): boolean {
    const { subscription, sink, has, bufferBytes } = this.#options;
    const { topic, first, last } = bundle;
    if (first.access !== undefined || first.id <= this.#cursor || first.id <= has) return false;
    if (topic === undefined || subscription.has(topic)) {
      if (bundle.length > bufferBytes - sink.buffered) return false;
      this.#sentId = last.id;
      sink.write(bundle.chunk());
    }
    this.#cursor = last.id;
    return true;
  }

  /** Takes frames one by one, up to the first that does not fit: that one and all after it are replayed. One that changes access is the only one. */
  #takeEach(frames: readonly Frame[], nothing: SharedBytes): void {
    const { sink, bufferBytes } = this.#options;
    const room = bufferBytes - sink.buffered;
    let taken = nothing;
    for (const frame of frames) {
      if (frame.id <= this.#cursor) continue;
      if (taken.length + frame.chunk.length > room) {
        this.#state = 'replaying';
        this.#cursor = frame.id - 1;
        break;
      }
      this.#cursor = frame.id;
      if (this.#take(frame)) taken = taken.follow(frame);
    }
    if (taken.length > 0) sink.write(taken.chunk());
  }

  /** Keeps the connection alive and a quiet client's cursor close to the head. To be called every heartbeat interval. */
  heartbeat(): void {
    const { sink, hub } = this.#options;
    if (this.#state === 'ended' || sink.buffered > 0) return;
    if (this.#state === 'live' && hub.cursor > this.#sentId) {
      this.#sentId = hub.cursor;
      sink.write(cursorFrame(hub.cursor));
    } else {
      sink.write(HEARTBEAT);
    }
  }

  /** Ends the stream and tells the client why. */
  end(reason: DisconnectReason): void {
    if (this.#state === 'ended') return;
    this.closed();
    this.#options.onEnd(reason);
    this.#options.sink.end(disconnectFrame(reason, this.#options.retryMs()));
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
    }
  }

  /** @returns whether there is more to replay */
  async #catchUpStep(past: Past): Promise<boolean> {
    const { hub, sink } = this.#options;
    await sink.drained();
    if (this.#state === 'replaying' && this.#cursor < hub.cursor) await hub.turns.take();
    if (this.#state !== 'replaying') return false;
    const after = this.#cursor;
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
    this.#replayStretch(stretch);
    // Not for one who is slow: what waits for its socket is its share of the memory.
    if (this.#state === 'replaying' && sink.buffered === 0) past.readAhead(this.heard, this.#cursor);
    return true;
  }

  /** Gives the client past frames in one write. */
  #replayStretch({ frames, reached, asked }: Stretch): void {
    const { sink, bufferBytes } = this.#options;
    const { heard } = this;
    const room = bufferBytes - sink.buffered;
    const parts: Chunk[] = [];
    let size = 0;
    let complete = true;
    for (const frame of frames) {
      if (size > 0 && size + frame.chunk.length > room) {
        complete = false;
        break;
      }
      this.#cursor = frame.id;
      if (heard !== 'all' && !heard.has(frame.topic)) continue;
      if (this.#take(frame)) {
        parts.push(frame.chunk);
        size += frame.chunk.length;
      }
      // A topic gained here was not asked for: the rest of the page lacks it.
      const gained =
        asked !== undefined && frame.access?.kind === 'granted' && !asked.includes(frame.access.topic);
      if (this.#endReason !== undefined || gained) {
        complete = false;
        break;
      }
    }
    if (complete && reached !== undefined) this.#cursor = reached;
    if (size > 0) sink.write(Chunk.join(parts));
    if (this.#endReason !== undefined) this.end(this.#endReason);
  }

  /** Applies a frame to the subscription; returns whether the client gets it. */
  #take(frame: Frame): boolean {
    const { subscription, hub } = this.#options;
    const effect = subscription.apply(frame);
    if (frame.access !== undefined && 'topic' in frame.access) hub.accessChanged(this, frame.access.topic);
    if (effect === 'end-session') this.#endReason = 'session_revoked';
    if (effect === 'deliver-and-end' || effect === 'skip-and-end') this.#endReason = 'access_revoked';
    // Nothing after this frame: flush() or the replay ends the stream once it is written.
    if (this.#endReason !== undefined) this.#state = 'replaying';
    const wanted = (effect === 'deliver' || effect === 'deliver-and-end') && frame.id > this.#options.has;
    if (wanted) this.#sentId = frame.id;
    return wanted;
  }

  #goLive(): void {
    this.#state = 'live';
    if (this.#caughtUp) return;
    this.#caughtUp = true;
    this.#sentId = Math.max(this.#cursor, this.#options.has);
    this.#options.sink.write(caughtUpFrame(this.#sentId));
  }
}
