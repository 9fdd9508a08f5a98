import type { IncomingMessage } from 'node:http';

/**
 * Whether the client takes an event stream (RFC 9110, section 12.5.1): the most specific range that matches decides, and no
 * header means anything. Parameters but `q` say nothing: an event stream is always UTF-8.
 */
export function acceptsStream({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
  const { accept } = headers;
  if (accept === undefined || accept.trim() === '') return true;
  const weights = weightsOf(accept);
  const weight = weights.get('text/event-stream') ?? weights.get('text/*') ?? weights.get('*/*');
  return weight !== undefined && weight > 0;
}

/** Whether it names the type itself; a client that takes anything is not an `EventSource`. */
export function wantsStream({ headers }: Pick<IncomingMessage, 'headers'>): boolean {
  return (weightsOf(headers.accept ?? '').get('text/event-stream') ?? 0) > 0;
}

/** Media ranges in lower case with their weights; of ranges given twice the higher. A weight that is none counts as 1. */
function weightsOf(accept: string): Map<string, number> {
  const weights = new Map<string, number>();
  for (const item of accept.toLowerCase().split(',')) {
    const [range = '', ...parameters] = item.split(';').map((part) => part.trim());
    const q = parameters.find((parameter) => /^q\s*=/.test(parameter))?.replace(/^q\s*=\s*/, '');
    const weight = q !== undefined && /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(q) ? Number(q) : 1;
    weights.set(range, Math.max(weight, weights.get(range) ?? 0));
  }
  return weights;
}
