import type pg from 'pg';

/** A number from 0 up to but not including 1, as `Math.random` gives it. */
export type Random = () => number;

/** One thing that can happen in the market; it runs in a transaction of its own. */
export interface Move {
  readonly name: string;
  /** How often it is chosen, relative to the other moves. */
  readonly weight: number;
  /** Does it, if there is something to do it to. */
  play(client: pg.ClientBase, random: Random): Promise<void>;
}

/** A transaction hash of the usual form, made by the database. */
export const TX_HASH = `('0x' || replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''))`;

/** @returns one of the items, each as likely as the others */
export function pick<T>(items: readonly T[], random: Random): T {
  const place = Math.floor(random() * items.length);
  if (place >= items.length)
    throw new RangeError('random() must give a number below 1, to pick from something');
  return items[place] as T;
}

/** @returns the `id` of one of the rows that a query finds, each as likely as the others */
export async function pickId(
  client: pg.ClientBase,
  random: Random,
  query: string,
  values: unknown[],
): Promise<string | undefined> {
  const { rows } = await client.query<{ id: string }>(query, values);
  return rows.length === 0 ? undefined : pick(rows, random).id;
}

/** @returns the single number that a `select count(*)::int as n …` gives */
export async function count(client: pg.ClientBase, query: string, values: unknown[]): Promise<number> {
  const { rows } = await client.query<{ n: number }>(query, values);
  return Number(rows[0]?.n);
}
