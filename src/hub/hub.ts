import type { CredentialsRevoked } from '../outbox/access-change.ts';
import type { OutboxEvent } from '../outbox/event.ts';
import type { History } from '../outbox/reader.ts';
import { encodeEvent, type Frame } from '../sse/frame.ts';
import { WriteBatch } from '../sse/write-batch.ts';
import { Audience } from './audience.ts';
import { Bundle } from './bundle.ts';
import { ReplayWindow } from './replay-window.ts';
import { SharedBytes } from './shared-bytes.ts';
import { SharedJoins } from './shared-joins.ts';
import type { Subscriber } from './subscriber.ts';
import { Turns } from './turns.ts';

/** Replays together keep the event loop for so long, in milliseconds; a live event waits no longer for them. */
const REPLAY_SHARE_MS = 3;

/**
 * Topic → subscribers, in one process. The relay gives it every event once and in order; it hands the same bytes to every
 * live subscriber of the topic, one write per subscriber and batch (and one more where a batch changes access).
 */
export class Hub {
  readonly #windowLimits: { maxEvents: number; maxBytes: number };
  readonly #byTopic = new Map<string, Audience>();
  readonly #ofAll = new Set<Subscriber>();
  readonly #subscribers = new Set<Subscriber>();
  readonly turns: Turns;
  readonly joins = new SharedJoins();
  readonly #batch = new WriteBatch();
  #window: ReplayWindow;
  #cursor = 0;
  #history: History = { epoch: '', firstId: 0, oldest: 0 };

  /**
   * @param windowLimits bounds of the replay window, in events and bytes
   * @param replayShareMs how long replays may keep the event loop to themselves, in milliseconds
   */
  constructor(windowLimits: { maxEvents: number; maxBytes: number }, replayShareMs = REPLAY_SHARE_MS) {
    this.#windowLimits = windowLimits;
    this.turns = new Turns(replayShareMs);
    this.#window = new ReplayWindow(0, windowLimits);
  }

  /** The id of the last event that the relay has read. */
  get cursor(): number {
    return this.#cursor;
  }

  get history(): History {
    return this.#history;
  }

  get window(): ReplayWindow {
    return this.#window;
  }

  get subscribers(): ReadonlySet<Subscriber> {
    return this.#subscribers;
  }

  get topicCount(): number {
    return this.#byTopic.size;
  }

  /**
   * Begins at a cursor, or begins anew where the relay could not go on from its own. Then every subscriber is sent away: it
   * comes back with its own cursor, has its access looked up in the new history, and is told of the gap.
   */
  begin(cursor: number, history: History): void {
    this.#cursor = cursor;
    this.#history = history;
    this.#window = new ReplayWindow(cursor, this.#windowLimits);
    this.#sendAllAway();
  }

  /** They come back with their own cursors, and replay. */
  #sendAllAway(): void {
    for (const subscriber of [...this.#subscribers]) subscriber.end('unavailable');
  }

  /** Retention went on: older cursors can no longer be replayed. */
  setHistory(history: History): void {
    this.#history = history;
  }

  /**
   * Hands on a batch: events after the hub's cursor, in order, none missing. Nothing is known to fail in it; if anything does, nobody can
   * tell who has got what, and the relay will not read these events again: so everybody is sent away.
   * @throws what failed
   */
  dispatch(events: readonly OutboxEvent[]): void {
    const frames = events.map(encodeEvent);
    for (const frame of frames) this.#window.push(frame);
    // The cursor moves before the writes: a subscriber that turns from live to replaying in its write looks for events up to here.
    this.#cursor = events.at(-1)?.id ?? this.#cursor;
    for (const part of cutAtAccess(frames)) {
      try {
        this.#handOut(part);
      } catch (error) {
        this.#sendAllAway();
        throw error;
      }
    }
  }

  /** Hands on frames and writes them. */
  #handOut(frames: readonly Frame[]): void {
    try {
      this.#hand(frames);
    } finally {
      this.#batch.flush();
    }
  }

  /** @param frames at least one; if one of them changes access it is the only one */
  #hand(frames: readonly Frame[]): void {
    const nothing = new SharedBytes();
    if (this.#ofAll.size > 0) {
      const all = new Bundle(frames);
      for (const subscriber of [...this.#ofAll]) subscriber.take(all, nothing, this.#batch);
    }
    const parts = this.#partsOf(frames);
    const [first] = parts;
    if (first !== undefined && parts.length === 1) {
      // Nearly always: no second visit to find out what else there is for each of them.
      for (const subscriber of first.group) subscriber.take(first.bundle, nothing, this.#batch);
      return;
    }
    const touched: Subscriber[] = [];
    for (const { bundle, group } of parts)
      for (const subscriber of group) if (subscriber.offer(bundle)) touched.push(subscriber);
    for (const subscriber of touched) subscriber.flush(nothing, this.#batch);
  }

  /** The frames that somebody hears, by topic, with who is to look at them. */
  #partsOf(frames: readonly Frame[]): { readonly bundle: Bundle; readonly group: Iterable<Subscriber> }[] {
    const byAudience = new Map<Audience, Frame[]>();
    for (const frame of frames) {
      const audience = this.#byTopic.get(frame.topic);
      if (audience === undefined) continue;
      const heard = byAudience.get(audience);
      if (heard === undefined) byAudience.set(audience, [frame]);
      else heard.push(frame);
    }
    const parts = [];
    for (const [audience, heard] of byAudience) {
      const bundle = new Bundle(heard);
      // Whoever takes a change of access may come to hear other topics, or none: all of them are found first.
      const group = bundle.first.access === undefined ? audience.given : audience.everybody();
      parts.push({ bundle, group });
    }
    return parts;
  }

  /** Ends the streams whose credential was revoked, before the relay has come to the event that says so. */
  revoke(topic: string, change: CredentialsRevoked): void {
    for (const subscriber of [...(this.#byTopic.get(topic)?.everybody() ?? []), ...this.#ofAll])
      subscriber.revoke(topic, change);
  }

  add(subscriber: Subscriber): void {
    this.#subscribers.add(subscriber);
    const { heard } = subscriber;
    if (heard === 'all') this.#ofAll.add(subscriber);
    else for (const topic of heard) this.#hear(subscriber, topic);
  }

  remove(subscriber: Subscriber): void {
    if (!this.#subscribers.delete(subscriber)) return;
    const { heard } = subscriber;
    if (heard === 'all') this.#ofAll.delete(subscriber);
    else for (const topic of heard) this.#unhear(subscriber, topic);
  }

  /** A subscriber's access to a topic has changed: indexes it anew. */
  accessChanged(subscriber: Subscriber, topic: string): void {
    if (!this.#subscribers.has(subscriber) || subscriber.heard === 'all') return;
    if (subscriber.heard.has(topic)) this.#hear(subscriber, topic);
    else this.#unhear(subscriber, topic);
  }

  #hear(subscriber: Subscriber, topic: string): void {
    const audience = this.#byTopic.get(topic) ?? new Audience();
    audience.put(subscriber, subscriber.isGiven(topic));
    this.#byTopic.set(topic, audience);
  }

  #unhear(subscriber: Subscriber, topic: string): void {
    const audience = this.#byTopic.get(topic);
    audience?.delete(subscriber);
    if (audience?.size === 0) this.#byTopic.delete(topic);
  }
}

/** A frame that changes access also changes who hears those after it: it goes by itself, between the others. */
function* cutAtAccess(frames: readonly Frame[]): Generator<readonly Frame[]> {
  let from = 0;
  for (const [index, { access }] of frames.entries()) {
    if (access === undefined) continue;
    if (from < index) yield frames.slice(from, index);
    yield frames.slice(index, index + 1);
    from = index + 1;
  }
  if (from < frames.length) yield from === 0 ? frames : frames.slice(from);
}
