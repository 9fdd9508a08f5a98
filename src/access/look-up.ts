import type { Membership } from './actor.ts';
import type { Claims } from './token.ts';

/** One whose membership is looked up. */
export interface Asker {
  readonly claims: Claims;
  /** Their start cursor: access events after it are returned. */
  readonly after: number;
}

/** What one statement found. */
export interface Found {
  /** Of each asker, in their order; an error, such as a CredentialError, concerns only that one. */
  readonly outcomes: readonly (Membership | Error)[];
  /** How long the database worked on it, by its own clock; 0 for a single asker, who is not timed. */
  readonly seconds: number;
}

/**
 * Reads in one statement, and so in one snapshot, who each speaks for and what they may see, on the primary. Call it after the
 * start cursors are fixed.
 * @param askers at least one
 * @throws what pg throws, perhaps because of a single one of them
 */
export type LookUpMemberships = (db: MembershipSource, askers: readonly Asker[]) => Promise<Found>;

/**
 * As {@link LookUpMemberships}, of one.
 * @param after as in {@link Asker}
 * @throws CredentialError if the credential has been revoked; what pg throws
 */
export type LookUpMembership = (db: MembershipSource, claims: Claims, after: number) => Promise<Membership>;

/** What a look-up needs of a pg Pool. */
export interface MembershipSource {
  query<Row extends object>(text: string, values: unknown[]): Promise<{ rows: Row[] }>;
}

/** How a look-up is written: once, for one and for many. */
export interface LookUp<Name extends string, Row extends object> {
  /** What the statement is given of an asker besides `after`, and its type in Postgres; no arrays. */
  readonly columns: Readonly<Record<Name, string>>;
  /**
   * A query of exactly one row.
   * @param asker SQL of each column
   * @param isAfter SQL of whether `o.id` is after the start cursor
   */
  readonly text: (asker: Readonly<Record<Name, string>>, isAfter: string) => string;
  readonly values: (claims: Claims) => Readonly<Record<Name, unknown>>;
  /** @throws CredentialError if the credential has been revoked */
  readonly membership: (row: Row, claims: Claims) => Membership;
}

/** Makes a look-up of what its query is. */
export function createLookUp<Name extends string, Row extends object>({
  columns,
  text,
  values,
  membership,
}: LookUp<Name, Row>): LookUpMemberships {
  const names = Object.keys(columns) as Name[];
  const one = textForOne(columns, text);
  const many = textForMany(columns, text);
  const outcomeOf = (row: Row | undefined, { claims }: Asker): Membership | Error => {
    try {
      if (row === undefined) throw new Error('the membership query returned nothing');
      return membership(row, claims);
    } catch (error) {
      return error as Error;
    }
  };
  return async (db, askers) => {
    const given = askers.map(({ claims }) => values(claims));
    const cursors = askers.map(({ after }) => after);
    const [first, ...others] = askers;
    if (first !== undefined && others.length === 0) {
      const { rows } = await db.query<Row>(one, [...names.map((name) => given[0]?.[name]), ...cursors]);
      return { outcomes: [outcomeOf(rows[0], first)], seconds: 0 };
    }
    const { rows } = await db.query<Row & { n: number; seconds: number }>(many, [
      ...names.map((name) => given.map((row) => row[name])),
      cursors,
      Math.min(...cursors),
    ]);
    // By number, not by place: whose row does not come back gets an error, never the next one's row.
    const byNumber = new Map(rows.map((row) => [row.n, row]));
    return {
      outcomes: askers.map((asker, index) => outcomeOf(byNumber.get(index + 1), asker)),
      seconds: Math.max(...rows.map(({ seconds }) => seconds), 0),
    };
  };
}

/** A look-up of one by itself. */
export function alone(lookUp: LookUpMemberships): LookUpMembership {
  return async (db, claims, after) => {
    const [found] = (await lookUp(db, [{ claims, after }])).outcomes;
    if (found === undefined || found instanceof Error) throw found;
    return found;
  };
}

type Text<Name extends string> = LookUp<Name, object>['text'];
type Columns<Name extends string> = LookUp<Name, object>['columns'];

/** Apart from the text for many, since parameters are worth something to the planner: it looks at nothing for a null, and at no dropped partition. */
function textForOne<Name extends string>(columns: Columns<Name>, text: Text<Name>): string {
  const names = Object.keys(columns) as Name[];
  const parameters = names.map((name, index) => [name, `$${index + 1}::${columns[name]}`]);
  return text(Object.fromEntries(parameters), `o.id > $${names.length + 1}::bigint`);
}

/**
 * The least of the cursors is given once more, as a parameter, or the planner would have to reckon with every partition there is.
 *
 * The arrays stand in subqueries, where the planner does not see how long they are: the plan is the same, but its cost would soon be
 * one at which Postgres compiles it (jit_above_cost), and that takes thirty times as long as to look up a hundred.
 */
function textForMany<Name extends string>(columns: Columns<Name>, text: Text<Name>): string {
  const names = Object.keys(columns) as Name[];
  const given = [...names.map((name) => columns[name]), 'bigint'];
  const arrays = given.map((type, index) => `(select $${index + 1}::${type}[])`);
  const lookedUp = text(
    Object.fromEntries(names.map((name) => [name, `asker.${name}`])) as Record<Name, string>,
    `o.id > asker.after and o.id > $${given.length + 1}::bigint`,
  );
  return `
  select asker.n::integer as n, extract(epoch from clock_timestamp() - statement_timestamp())::float8 as seconds, found.*
    from unnest(${arrays.join(', ')}) with ordinality as asker(${[...names, 'after', 'n'].join(', ')}),
         lateral (${lookedUp}) found`;
}
