import { type RawBuilder, sql } from 'kysely';

/** A time as events carry it: formatted by the function that the event triggers format it with. */
export function wireTime(column: string): RawBuilder<string | null> {
  return sql<string | null>`outbox_time(${sql.ref(column)})`;
}

/** The right side of `column = …` for a list of any length, sent as one array; an empty list matches nothing. */
export function anyOf(values: readonly string[]): RawBuilder<string> {
  return sql<string>`any(${values})`;
}

/** The rows by a key of theirs, each group in the order of the rows. */
export function groupBy<Row>(rows: readonly Row[], keyOf: (row: Row) => string): Map<string, Row[]> {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = keyOf(row);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [row]);
    else group.push(row);
  }
  return groups;
}
