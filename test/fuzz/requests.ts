import type { Dice } from './dice.ts';

/** What an attacker may have got hold of: tokens, cookies and ids of people who are not those that we watch. */
export interface Loot {
  readonly tokens: readonly [string, ...string[]];
  readonly topics: readonly [string, ...string[]];
  readonly cursor: () => number;
}

const METHODS = ['HEAD', 'POST', 'DELETE', 'OPTIONS', 'PUT', 'TRACE', 'get', 'M-SEARCH'] as const;
const PATHS = [
  '/v1/events',
  '/v1/streams/%/events',
  '/v1/escrows/%/events',
  '/v1/snapshot',
  '/v1/cursor',
  '/v1/session',
  '/v1/tickets',
  '/healthz',
  '/readyz',
  '/openapi.json',
  '/asyncapi.json',
  '/metrics',
  '/',
  '/app.js',
  '/../../etc/passwd',
  '//',
  '*',
  'http://elsewhere/v1/events',
] as const;
const PARAMETERS = [
  'topic',
  'topic',
  'lastEventId',
  'ticket',
  'resume',
  'x',
  '__proto__',
  'topic[]',
  '',
] as const;
const HEADERS = [
  'Last-Event-ID',
  'Accept',
  'Cookie',
  'Origin',
  'X-Forwarded-For',
  'X-Forwarded-Proto',
  'Range',
  'If-None-Match',
  'If-Modified-Since',
  'Content-Type',
  'Content-Length',
  'Transfer-Encoding',
  'Connection',
  'Upgrade',
  'Expect',
  'Host',
  'Access-Control-Request-Method',
] as const;
const VALUES = [
  'text/event-stream',
  'text/event-stream; charset=utf-8',
  'text/event-stream;q=0',
  '*/*',
  'chunked',
  'close',
  'keep-alive, Upgrade',
  '100-continue',
  'bytes=0-1,5-',
  'null',
  'https://evil.example',
  '0',
  '-1',
  '007',
  '5',
  '99999999999999999999',
  '281474976710656',
  '1, 2',
  '1\tid: 7',
  'settlewire_session=',
  'settlewire_session=a.b.c',
  '198.51.100.7',
  '2001:db8::1, ::ffff:1.2.3.4',
  'garbage',
] as const;
/** What would add a line to a stream if it came through. */
const INJECTIONS = [
  '%0d%0aid:%20999999%0d%0a%0d%0a',
  '%0aevent:%20forged%0adata:%20{}%0a%0a',
  '%00',
  '%e2%80%a8',
  '%',
  '%ff%fe',
  '%u000a',
] as const;

/** A request as text that may or may not make sense. */
export function makeRequest(dice: Dice, loot: Loot): string {
  const method = dice.once(4) ? dice.one(METHODS) : 'GET';
  const lines = [`${method} ${target(dice, loot)} HTTP/1.${dice.once(12) ? 0 : 1}`];
  if (!dice.once(30)) lines.push('Host: x');
  if (!dice.once(6)) lines.push(`Authorization: ${credential(dice, loot)}`);
  if (dice.once(2)) lines.push('Accept: text/event-stream');
  if (dice.once(3)) lines.push(`X-Forwarded-For: 198.51.${dice.below(4)}.${dice.below(256)}`);
  if (dice.once(3))
    lines.push(`Last-Event-ID: ${dice.once(2) ? loot.cursor() - dice.below(50) : dice.one(VALUES)}`);
  for (let more = dice.below(dice.once(2) ? 4 : 1); more > 0; more -= 1)
    lines.push(`${dice.one(HEADERS)}: ${dice.once(8) ? 'x'.repeat(dice.below(20_000)) : dice.one(VALUES)}`);
  const body = dice.once(4)
    ? dice.one(['{"topics":["x:1"]}', '{', '[]', '{"topics":{}}', 'x'.repeat(20_000)])
    : '';
  if (body !== '')
    lines.push('Content-Type: application/json', `Content-Length: ${body.length - (dice.once(6) ? 1 : 0)}`);
  return `${lines.join('\r\n')}\r\n\r\n${body}`;
}

function target(dice: Dice, loot: Loot): string {
  const path = (dice.once(2) ? '/v1/events' : dice.one(PATHS)).replace('%', () =>
    text(dice, loot).replace(/^[a-z]+:/, ''),
  );
  const parameters = Array.from(
    { length: dice.once(20) ? dice.below(1500) : dice.below(dice.once(2) ? 4 : 2) },
    () => `${dice.one(PARAMETERS)}=${text(dice, loot)}`,
  );
  return parameters.length === 0 ? path : `${path}?${parameters.join('&')}`;
}

function text(dice: Dice, loot: Loot): string {
  const topic = dice.one(loot.topics);
  switch (dice.below(12)) {
    case 0:
      return topic + dice.one(INJECTIONS);
    case 1:
      return encodeURIComponent(dice.bytes(30).toString('latin1'));
    case 2:
      return dice.one(VALUES).replaceAll(/\s/g, '+');
    case 3:
      return topic.toUpperCase();
    default:
      return topic;
  }
}

function credential(dice: Dice, loot: Loot): string {
  const token = dice.one(loot.tokens);
  const at = dice.below(token.length);
  switch (dice.below(10)) {
    case 0:
      return `Bearer ${token.slice(0, at)}${dice.one(['A', '-', '.', ''])}${token.slice(at + 1)}`;
    case 1:
      return dice.one([
        'Bearer',
        'Basic dTpw',
        'Bearer ..',
        `bearer  ${token}`,
        `Bearer ${token},${token}`,
        '',
      ]);
    default:
      return `Bearer ${token}`;
  }
}

/** Bytes of a request with some of them changed, taken out, doubled or put in. */
export function mutate(dice: Dice, bytes: Buffer): Buffer {
  let mutated = bytes;
  for (let times = 1 + dice.below(4); times > 0; times -= 1) {
    const at = dice.below(mutated.length + 1);
    const to = Math.min(mutated.length, at + dice.below(40));
    const put = dice.one([
      Buffer.alloc(0),
      dice.bytes(8),
      mutated.subarray(at, to),
      Buffer.from(
        dice.one(['\r\n', '\n', '\0', '\r', ': ', '\r\n\r\n', ' ', 'Transfer-Encoding: chunked\r\n']),
      ),
    ]);
    mutated = Buffer.concat([mutated.subarray(0, at), put, mutated.subarray(dice.once(2) ? at : to)]);
  }
  return mutated;
}
