import type { Client } from 'pg';
import type { Hub } from '../hub/hub.ts';
import {
  type Batch,
  type BatchEvents,
  type GaplessReader,
  readBatch,
  readHead,
  readMark,
  replaceEpoch,
} from '../outbox/reader.ts';
import { isSetBack } from './set-back.ts';
import type { RelayLog, RelayStats } from './stats.ts';

export interface HandOverOptions {
  readonly hub: Hub;
  readonly log: RelayLog;
  readonly stats: RelayStats;
  /** Most events in one read. */
  readonly batchEvents: number;
  /** Called for each batch that was handed on, with its size and the seconds since the append of its first event. */
  readonly onDispatch: (events: number, lagSeconds: number) => void;
}

/** Ids that a read without a gap looks at. */
const MOST_GAPLESS = 250;

/** From the outbox to the hub: where a session begins, what it reads, and handing that on. It is the hub's cursor that moves, over all sessions. */
export class HandOver {
  readonly #options: HandOverOptions;
  /** A full read without a gap has found so many events. */
  readonly mostGapless: number;
  #begun = false;
  /** After a full batch there is more: it is read while that one is handed on. */
  #ahead: { readonly batch: Promise<Batch>; readonly askedMs: number } | undefined;
  #answeredAtMs = 0;
  /** Of the event at the hub's cursor; undefined if the cursor is the start of an epoch. */
  #mark: string | undefined;

  constructor(options: HandOverOptions) {
    this.#options = options;
    this.mostGapless = Math.min(options.batchEvents, MOST_GAPLESS);
  }

  /** When the last answer came, by the clock of `performance.now()`. */
  get answeredAtMs(): number {
    return this.#answeredAtMs;
  }

  /** After a full batch: what follows it is being read already. */
  get isAhead(): boolean {
    return this.#ahead !== undefined;
  }

  /** Begins a session: goes on from the hub's cursor if that is still possible, else begins anew at the head. */
  async open(client: Client): Promise<void> {
    this.#ahead = undefined;
    await this.#begin(client);
  }

  /**
   * Reads up to the horizon and hands that on; begins anew if the history is another one.
   * @param prepared as for {@link readBatch}
   */
  async batch(client: Client, prepared: boolean): Promise<Batch> {
    const { hub, batchEvents, stats } = this.#options;
    const batch = await (this.#ahead?.batch ?? readBatch(client, hub.cursor, batchEvents, prepared));
    this.#answeredAtMs = performance.now();
    // What was read ahead has waited here until its predecessor was handed on.
    const answeredMs = this.#ahead?.askedMs ?? this.#answeredAtMs;
    this.#ahead = undefined;
    stats.reads += 1;
    stats.looks += 1;
    const other = batch.history.epoch !== hub.history.epoch || batch.history.oldest > hub.cursor;
    // With nobody in flight the horizon is the last id given out: it goes back only if somebody has set it back.
    if (other || (!batch.inFlight && batch.horizon < hub.cursor)) {
      await this.#begin(client);
      return { ...batch, events: [], inFlight: true };
    }
    hub.setHistory(batch.history);
    const last = batch.events.at(-1);
    if (last !== undefined && batch.events.length === batchEvents) {
      this.#ahead = { batch: readBatch(client, last.id, batchEvents, prepared), askedMs: performance.now() };
      this.#ahead.batch.catch(() => {});
    }
    this.#handOn(batch, answeredMs);
    return batch;
  }

  /** Reads what follows the cursor without a gap, which needs no horizon, and hands that on; returns how many events it was. */
  async gapless(read: GaplessReader): Promise<number> {
    const { hub, stats } = this.#options;
    const batch = await read(hub.cursor, this.mostGapless);
    this.#answeredAtMs = performance.now();
    stats.reads += 1;
    this.#handOn(batch, this.#answeredAtMs);
    return batch.events.length;
  }

  async #begin(client: Client): Promise<void> {
    const { hub, log } = this.#options;
    let { cursor, history } = await readHead(client);
    if (this.#begun) {
      if (await isSetBack(client, hub, this.#mark, history)) {
        log.warn(
          { cursor: hub.cursor },
          'relay: the database was set back behind events that were delivered',
        );
        await replaceEpoch(client, history.epoch);
        ({ cursor, history } = await readHead(client));
      } else if (history.epoch === hub.history.epoch && hub.cursor >= history.oldest) return;
      log.warn(
        { cursor: hub.cursor, history },
        'relay: another epoch, or it was away for longer than events are kept: beginning anew, clients get a reset',
      );
    }
    this.#mark = await readMark(client, cursor);
    hub.begin(cursor, history);
    this.#begun = true;
  }

  #handOn({ events, mark, lagSeconds }: BatchEvents, answeredMs: number): void {
    if (lagSeconds === undefined) return;
    const { hub, stats, onDispatch } = this.#options;
    stats.events += events.length;
    stats.lagSeconds = lagSeconds.last;
    try {
      hub.dispatch(events);
    } finally {
      // Whatever fails in it: the mark is that of the event at the hub's cursor.
      if (hub.cursor === events.at(-1)?.id) this.#mark = mark;
    }
    onDispatch(events.length, lagSeconds.first + (performance.now() - answeredMs) / 1000);
  }
}
