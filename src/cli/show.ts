import type { Block, Item } from '../tail/connection.ts';
import type { Paint, Style } from './terminal.ts';

export type Format = 'pretty' | 'raw' | 'json';

/** What stands on standard output for an item; events, or everything if raw. */
export function show(item: Item, format: Format, paint: Paint): string {
  if (format === 'raw') return item === 'heartbeat' ? ':\n' : block(item);
  if (item === 'heartbeat' || !item.type.includes(':')) return '';
  return format === 'json' ? json(item) : pretty(item, paint);
}

/** As it was on the wire. */
function block({ type, data, id, retryMs }: Block): string {
  const lines = [
    ...(retryMs === undefined ? [] : [`retry: ${retryMs}`]),
    `event: ${type}`,
    `data: ${data}`,
    ...(id === undefined ? [] : [`id: ${id}`]),
  ];
  return `${lines.join('\n')}\n\n`;
}

// The data's own text: parsed and written again, its big numbers would be others.
function json({ type, data, id }: Block): string {
  return `{"id":${id},"type":${JSON.stringify(type)},"data":${data}}\n`;
}

const STYLES: Readonly<Record<string, Style>> = {
  stream: 'cyan',
  settle: 'green',
  escrow: 'yellow',
  access: 'red',
};

function pretty({ type, data, id = '' }: Block, paint: Paint): string {
  const style = STYLES[type.slice(0, type.indexOf(':'))] ?? 'bold';
  return `${paint('dim', id.padStart(8))}  ${paint(style, type.padEnd(24))}  ${fields(data)}\n`;
}

function fields(data: string): string {
  const value: unknown = JSON.parse(data);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return printable(data);
  return Object.entries(value)
    .map(
      ([name, inner]) =>
        `${printable(name)}=${typeof inner === 'string' ? text(inner) : printable(JSON.stringify(inner))}`,
    )
    .join(' ');
}

function text(value: string): string {
  return /^[^\s"=\p{C}]+$/u.test(value) ? value : printable(JSON.stringify(value));
}

/** Whoever writes an event must not be able to steer the terminal of whoever looks at it. */
function printable(shown: string): string {
  return shown.replaceAll(/\p{C}/gu, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}
