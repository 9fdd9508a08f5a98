import type { Hub } from '../hub/hub.ts';
import { type History, type Queryable, readMark } from '../outbox/reader.ts';

/**
 * Whether this database gives out again ids that clients have, and nothing in it shows that: an earlier state of the same
 * cluster and timeline, in which the last event read is gone or another one, or another epoch that does not begin after it.
 * @param mark of the event at the hub's cursor, as in {@link readMark}; undefined if the cursor is the start of an epoch
 */
export async function isSetBack(
  db: Queryable,
  hub: Hub,
  mark: string | undefined,
  { epoch, firstId, oldest }: History,
): Promise<boolean> {
  if (epoch !== hub.history.epoch) return firstId <= hub.cursor;
  // The row at the very end of what retention has dropped is gone by right.
  if (mark === undefined || hub.cursor <= oldest) return false;
  return (await readMark(db, hub.cursor)) !== mark;
}
