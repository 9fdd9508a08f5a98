import type { QueryArrayConfig } from 'pg';
import type { OutboxEvent } from './event.ts';

/** What the reader needs of a pg Client or Pool. */
export interface Queryable {
  query(config: QueryArrayConfig): Promise<{ rows: unknown[][] }>;
}

/** What one read of the relay saw. */
export interface Batch {
  readonly events: OutboxEvent[];
  /** Of the last event, as in {@link readMark}; undefined if there is none. */
  readonly mark: string | undefined;
  /** Seconds from the append of the last event, and of the first one, to this read, all by the database's clock; undefined if there is no event. */
  readonly lagSeconds: { readonly last: number; readonly first: number } | undefined;
  /** No id at or below it can still appear. Only a bound: never a cursor. */
  readonly horizon: number;
  /** A writer was in flight: a ring may have come before its rows could be read. */
  readonly inFlight: boolean;
  readonly history: History;
}

/** What of a read is handed on. */
export type BatchEvents = Pick<Batch, 'events' | 'mark' | 'lagSeconds'>;

/** Which history the ids belong to and how much of it is left. */
export interface History {
  readonly epoch: string;
  /** Cursors below it belong to an earlier epoch. */
  readonly firstId: number;
  /** The oldest cursor from which every later event can still be read. */
  readonly oldest: number;
}

/** A page ends after so many events, or with the event that exceeds so many bytes. */
export interface PageLimits {
  readonly maxEvents: number;
  readonly maxBytes: number;
}

/** A part of the past of some topics. */
export interface Page {
  readonly events: OutboxEvent[];
  /** The page is complete up to this id. */
  readonly reached: number;
  /** As in {@link History}, read after the events: a page that begins below it may have a gap. */
  readonly oldest: number;
}

function toEvent([id, topic, type, data]: unknown[]): OutboxEvent {
  return { id: Number(id), topic: topic as string, type: type as string, data: data as string };
}

/** The row without id that ends each answer of `outbox_read_batch` and `outbox_replay`. */
function takeLast(rows: unknown[][]): unknown[] {
  const last = rows.pop();
  if (last === undefined || last[0] !== null)
    throw new Error('the outbox functions in this database are not ours');
  return last;
}

/** Of rows whose fifth column is when they were appended, read at `now`. */
function timesOf(rows: unknown[][], now: unknown): Pick<Batch, 'mark' | 'lagSeconds'> {
  const [first, last] = [rows[0]?.[4], rows.at(-1)?.[4]];
  if (last === undefined) return { mark: undefined, lagSeconds: undefined };
  const since = (appendedAt: unknown): number => Math.max(0, Number(now) - Number(appendedAt));
  return { mark: String(last), lagSeconds: { last: since(last), first: since(first) } };
}

/**
 * Reads the events after a cursor up to the horizon, in one round trip (design section 3).
 * @param after the id of the last row read
 * @param max most events to return
 * @param prepared parsed and planned once: for a session of one's own that asks hundreds of times a second, not for one that a pooler gives to others
 * @throws what pg throws
 */
export async function readBatch(db: Queryable, after: number, max: number, prepared = false): Promise<Batch> {
  const { rows } = await db.query({
    ...(prepared && { name: 'outbox_read_batch' }),
    text: `select id, topic, type, data, extract(epoch from coalesce(created_at, clock_timestamp())), horizon, in_flight, oldest, first_id, epoch
             from outbox_read_batch($1, $2)`,
    values: [after, max],
    rowMode: 'array',
  });
  const [, , , , now, horizon, inFlight, oldest, firstId, epoch] = takeLast(rows);
  return {
    events: rows.map(toEvent),
    ...timesOf(rows, now),
    horizon: Number(horizon),
    inFlight: inFlight === true,
    history: { epoch: String(epoch), firstId: Number(firstId), oldest: Number(oldest) },
  };
}

/**
 * Reads the events that follow a cursor without a gap: whoever takes an id later takes a higher one, so they need no horizon, and cost a
 * fraction of {@link readBatch}. Whether a writer is in flight is not known after it.
 * @param db a session, whose plans become the same for all parameters from the first read on. Planning for each cursor takes longer than
 *   all the rest, and to the planner one plan that may have to look into every partition never looks better. That plan's estimate grows with
 *   the outbox, and beyond some hundred million rows each read of a few would be compiled first, so that is switched off with it.
 * @returns `after`: the id of the last row read; `max`: ids to look at
 */
export function gaplessReader(db: Queryable): (after: number, max: number) => Promise<BatchEvents> {
  let planning: Promise<unknown> | undefined;
  return async (after, max) => {
    planning ??= db.query({
      text: 'set plan_cache_mode = force_generic_plan; set jit = off',
      rowMode: 'array',
    });
    await planning;
    const { rows } = await db.query({
      name: 'outbox_read_gapless',
      text: `select id, topic, type, data::text, extract(epoch from created_at), case when id = $1::bigint + 1 then extract(epoch from clock_timestamp()) end
               from outbox
              where id > $1 and id <= $1::bigint + $2::integer
              order by id`,
      values: [after, max],
      rowMode: 'array',
    });
    const events: OutboxEvent[] = [];
    for (const row of rows) {
      const event = toEvent(row);
      if (event.id !== after + 1 + events.length) break;
      events.push(event);
    }
    return { events, ...timesOf(rows.slice(0, events.length), rows[0]?.[5]) };
  };
}

/** As {@link gaplessReader} makes it. */
export type GaplessReader = ReturnType<typeof gaplessReader>;

/** The cursor of a reader that starts now, and the history it is in; opens a new epoch if the cluster is another one than before. */
export async function readHead(db: Queryable): Promise<{ cursor: number; history: History }> {
  // One round trip each: the epoch may move the sequence, and the head must be read after that.
  await db.query({ text: 'select outbox_follow_epoch()', rowMode: 'array' });
  const { rows } = await db.query({
    text: 'select outbox_head(), outbox_oldest(), m.first_id, m.epoch from outbox_meta m',
    rowMode: 'array',
  });
  const [cursor, oldest, firstId, epoch] = rows[0] ?? [];
  return {
    cursor: Number(cursor),
    history: { epoch: String(epoch), firstId: Number(firstId), oldest: Number(oldest) },
  };
}

/**
 * What tells the row with this id from any other that may have had it before a restore: when it was appended, to the microsecond.
 * @returns undefined if there is no such row
 */
export async function readMark(db: Queryable, id: number): Promise<string | undefined> {
  const { rows } = await db.query({
    text: 'select extract(epoch from created_at) from outbox where id = $1',
    values: [id],
    rowMode: 'array',
  });
  const mark = rows[0]?.[0];
  return mark === undefined ? undefined : String(mark);
}

/** Opens a new epoch, unless somebody has opened one in place of this one meanwhile. */
export async function replaceEpoch(db: Queryable, epoch: string): Promise<void> {
  await db.query({ text: 'select outbox_replace_epoch($1)', values: [epoch], rowMode: 'array' });
}

/** The last id that the sequence gave out, now: no cursor beyond it was ever ours. */
export async function readLastId(db: Queryable): Promise<number> {
  const { rows } = await db.query({ text: 'select last_value from outbox_id_seq', rowMode: 'array' });
  return Number(rows[0]?.[0]);
}

/**
 * A page of past events with `after < id <= through`.
 * @param topics those to read, or `all`
 * @param through the id of a row that a relay has read; everything up to it is settled
 * @param maxBytes the page ends with the event that exceeds it
 */
export async function readPage(
  db: Queryable,
  topics: readonly string[] | 'all',
  after: number,
  through: number,
  { maxEvents, maxBytes }: PageLimits,
): Promise<Page> {
  const { rows } = await db.query({
    text: 'select id, topic, type, data, reached, oldest from outbox_replay($1, $2, $3, $4, $5)',
    values: [topics === 'all' ? null : topics, after, through, maxEvents, maxBytes],
    rowMode: 'array',
  });
  const [, , , , reached, oldest] = takeLast(rows);
  return { events: rows.map(toEvent), reached: Number(reached), oldest: Number(oldest) };
}
