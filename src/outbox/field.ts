/** A JSON Schema (2020-12), as far as fields of events need it. */
export interface FieldSchema {
  readonly type: string | readonly string[];
  readonly format?: string;
  readonly pattern?: string;
  readonly enum?: readonly (string | null)[];
  readonly description?: string;
}

/** One field of an event's data: what it looks like as JSON, and as a type. */
export interface Field<T> {
  readonly schema: FieldSchema;
  /** Never there: it carries the type. */
  readonly type?: T;
}

/** The data that a set of fields makes: every key always there, in this order. */
export type DataOf<Fields extends Readonly<Record<string, Field<unknown>>>> = {
  readonly [Key in keyof Fields]: Fields[Key] extends Field<infer T> ? T : never;
};

export const uuid: Field<string> = { schema: { type: 'string', format: 'uuid' } };

/** Money and rates: a string, because a float would change it. */
export const decimal: Field<string> = { schema: { type: 'string', pattern: '^-?\\d+(\\.\\d+)?$' } };

/** ISO 8601, UTC, milliseconds; null where there is no time, or one that has no date (infinity). */
export const time: Field<string | null> = { schema: { type: ['string', 'null'], format: 'date-time' } };

/** An asset, a hash or a code: characters of which such things are made, and never a sentence. */
export const code: Field<string> = { schema: { type: 'string', pattern: '^[A-Za-z0-9_:.-]{1,128}$' } };

export const topic: Field<string> = {
  schema: { type: 'string', pattern: '^(stream|escrow|user|wallet):[A-Za-z0-9_.-]{1,128}$' },
};

export function oneOf<const T extends string>(...values: T[]): Field<T> {
  return { schema: { type: 'string', enum: values } };
}

export function orNull<T>({ schema }: Field<T>): Field<T | null> {
  return {
    schema: {
      ...schema,
      type: ['string', 'null'],
      ...(schema.enum === undefined ? {} : { enum: [...schema.enum, null] }),
    },
  };
}
