import { availableParallelism } from 'node:os';
import { z } from 'zod';

/* The grammars of environment variables: each turns text into a value, or says in one line what is allowed. */

/** A key that access tokens may be signed with; `kid` is null for the one that tokens without a `kid` are checked with. */
export interface JwtSecret {
  readonly kid: string | null;
  readonly secret: string;
}

export const MINIMUM_SECRET_BYTES = 32;

// A variable that is set but empty (`PORT= npm start`, a blank line in an env file) counts as not set.
const variable = z
  .string()
  .optional()
  .transform((text) => {
    const trimmed = text?.trim();
    return trimmed ? trimmed : undefined;
  });

/** A variable of its own grammar: `parse` returns what the text means, or throws an error that says what is allowed. */
export function parsed<T>(parse: (text: string) => T, fallback: T) {
  return variable.transform((text, context): T => {
    if (text === undefined) return fallback;
    try {
      return parse(text);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : String(error) });
      return z.NEVER;
    }
  });
}

function between(low: number, high: number, fallback: number, unit: string, pattern: RegExp, kind: string) {
  return parsed((text) => {
    const number = pattern.test(text) ? Number(text) : Number.NaN;
    if (number >= low && number <= high) return number;
    throw new Error(`${JSON.stringify(text)} is not ${kind} from ${low} to ${high}${unit && ` (${unit})`}`);
  }, fallback);
}

export const whole = (low: number, high: number, fallback: number, unit = '') =>
  between(low, high, fallback, unit, /^\d{1,15}$/, 'a whole number');
export const seconds = (low: number, high: number, fallback: number) =>
  between(low, high, fallback, 'seconds', /^\d{1,9}(\.\d{1,3})?$/, 'a number');

const MAX_WORKERS = 512;

/** How many processes; `auto`: as many as there are processors that this one may use. */
export const workerCount = parsed((text) => {
  const number = text === 'auto' ? availableParallelism() : /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (number >= 1 && number <= MAX_WORKERS) return number;
  throw new Error(`${JSON.stringify(text)} is not a whole number from 1 to ${MAX_WORKERS}, or auto`);
}, 1);

export function choice<const T extends string>(values: readonly T[], fallback: T) {
  return parsed<T>((text) => {
    const value = values.find((candidate) => candidate === text);
    if (value === undefined) throw new Error(`${JSON.stringify(text)} is not one of ${values.join(', ')}`);
    return value;
  }, fallback);
}

export const textOrNull = parsed<string | null>((text) => text, null);

export const flag = parsed<boolean | null>((text) => {
  if (/^(true|1|yes|on)$/i.test(text)) return true;
  if (/^(false|0|no|off)$/i.test(text)) return false;
  throw new Error(`${JSON.stringify(text)} is not true or false`);
}, null);

function list(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}

// The value is never repeated in the message: it holds a password.
export const databaseUrl = parsed<string | null>((text) => {
  // Without the slashes it would be parsed, password and all, as a path.
  if (URL.canParse(text) && /^postgres(ql)?:\/\//i.test(text)) return text;
  throw new Error('is not a Postgres URL such as postgres://user:password@host:5432/database');
}, null);

/** Whoever can swap the keys on their way can be anybody, so they come over TLS or from this machine. */
export const jwksUrl = parsed<string | null>((text) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const local = url?.protocol === 'http:' && isLoopback(url.host);
  if (url !== undefined && (url.protocol === 'https:' || local) && url.username === '' && url.password === '')
    return url.href;
  throw new Error('is not an https URL such as https://id.example.com/jwks.json (http only on loopback)');
}, null);

/** Whether a URL's or request's host, port or not, is this machine. */
export function isLoopback(host: string): boolean {
  return /^(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/.test(host);
}

function strongSecret(secret: string, what: string): string {
  if (secret.startsWith('-----BEGIN'))
    throw new Error(`${what} is a key in PEM, which signs nothing by HMAC: public keys come from JWKS_URL`);
  const bytes = Buffer.byteLength(secret);
  if (bytes >= MINIMUM_SECRET_BYTES) return secret;
  throw new Error(
    `${what} has ${bytes} bytes and needs ${MINIMUM_SECRET_BYTES} or more: openssl rand -base64 48`,
  );
}

export const secret = parsed<string | null>((text) => strongSecret(text, 'the secret'), null);

export const secretsByKid = parsed<JwtSecret[]>((text) => {
  const keys = list(text).map((pair, index) => {
    const [, kid, value] = /^([^=\s]+)=(.+)$/.exec(pair) ?? [];
    if (kid === undefined || value === undefined)
      throw new Error(`key ${index + 1} is not of the form kid=secret`);
    return { kid, secret: strongSecret(value, `the secret of ${JSON.stringify(kid)}`) };
  });
  const twice = keys.find((key, index) => keys.findIndex((other) => other.kid === key.kid) !== index);
  if (twice) throw new Error(`has the kid ${JSON.stringify(twice.kid)} more than once`);
  return keys;
}, []);

export const origins = parsed<string[]>((text) => {
  const items = list(text);
  for (const item of items) {
    if (!/^https?:/.test(item) || !URL.canParse(item) || new URL(item).origin !== item)
      throw new Error(
        `${JSON.stringify(item)} is not an origin such as https://app.example.com (no path, no *, lower case)`,
      );
  }
  return items;
}, []);

/** How many proxies, or which, stand in front: what Express calls `trust proxy`. */
export const trustProxy = parsed<false | number | string[]>((text) => {
  if (/^\d{1,2}$/.test(text)) return Number(text);
  if (text === 'false') return false;
  const items = list(text);
  // `true` would believe whatever address a client claims, and with it every limit that goes by address.
  if (
    items.every((item) =>
      /^(loopback|linklocal|uniquelocal|[0-9a-f.:]*[.:][0-9a-f.:]*(\/\d{1,3})?)$/i.test(item),
    )
  )
    return items;
  throw new Error(
    `${JSON.stringify(text)} is not false, a number of proxies, or a list of addresses, subnets, loopback, linklocal, uniquelocal`,
  );
}, false);

/** A function in the database, by its schema and name, in the case in which it was made. */
export interface FunctionName {
  readonly schema: string;
  readonly name: string;
}

export const functionName = parsed<FunctionName | null>((text) => {
  const [, schema, name] = /^([A-Za-z_][\w$]{0,62})\.([A-Za-z_][\w$]{0,62})$/.exec(text) ?? [];
  if (schema === undefined || name === undefined)
    throw new Error(`${JSON.stringify(text)} is not of the form schema.function`);
  return { schema, name };
}, null);
