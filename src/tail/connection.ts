import * as http from 'node:http';
import * as https from 'node:https';
import { createParser } from 'eventsource-parser';

/** A complete block of the stream. */
export interface Block {
  readonly type: string;
  /** One line of JSON, as it came. */
  readonly data: string;
  readonly id: string | undefined;
  readonly retryMs: number | undefined;
}

/** What a connection brings: blocks, and the heartbeats between them. */
export type Item = Block | 'heartbeat';

/** An answer that is no stream. */
export class Refused extends Error {
  override readonly name = 'Refused';

  constructor(
    message: string,
    /** Asking again would be answered in the same way. */
    readonly final: boolean,
    readonly retryAfterMs: number,
  ) {
    super(message);
  }
}

export interface Question {
  readonly url: string;
  readonly token: string;
  readonly cursor: string | undefined;
  /** A connection without a byte for so long is dead. */
  readonly silenceMs: () => number;
}

/** Refusals that waiting cannot heal. */
const FINAL = new Set([400, 401, 403, 404, 405, 406, 413]);

/**
 * One connection, from its request to its end. Takes from the socket only what is asked for: whoever reads slowly is waited for.
 * @throws Refused, or what the socket says; an end that was no proper one is an end
 */
export async function* connection(question: Question): AsyncGenerator<Item[]> {
  const response = await request(question);
  if (response.statusCode !== 200) throw await refusal(response);
  if (!response.headers['content-type']?.startsWith('text/event-stream')) {
    response.destroy();
    throw new Refused(
      `${new URL(question.url).origin} is no settlewire: its answer is no event stream`,
      true,
      0,
    );
  }
  let items: Item[] = [];
  let retryMs: number | undefined;
  const parser = createParser({
    onRetry: (ms) => {
      retryMs = ms;
    },
    onComment: () => items.push('heartbeat'),
    onEvent: ({ event = 'message', data, id }) => {
      items.push({ type: event, data, id, retryMs });
      retryMs = undefined;
    },
  });
  response.setEncoding('utf8');
  try {
    for await (const chunk of response) {
      parser.feed(chunk);
      yield items;
      items = [];
      // What was just taken may have said how often something comes.
      response.socket.setTimeout(question.silenceMs());
    }
  } catch {
    // Cut off: what was complete has been handed on.
  } finally {
    response.destroy();
  }
}

function request({ url, token, cursor, silenceMs }: Question): Promise<http.IncomingMessage> {
  const send = url.startsWith('https:') ? https.request : http.request;
  const headers = {
    Accept: 'text/event-stream',
    Authorization: `Bearer ${token}`,
    ...(cursor === undefined ? {} : { 'Last-Event-ID': cursor }),
  };
  return new Promise((resolve, reject) => {
    const outgoing = send(url, { headers, agent: false });
    outgoing.setTimeout(silenceMs(), () => outgoing.destroy(new Error('nothing came any more')));
    outgoing.on('error', reject);
    outgoing.on('response', resolve);
    outgoing.end();
  });
}

/** What an answer other than 200 says of itself. */
export async function refusal(response: http.IncomingMessage): Promise<Refused> {
  const { statusCode = 0, statusMessage = '', headers } = response;
  let body = '';
  response.setEncoding('utf8');
  for await (const chunk of response) body += chunk;
  let why = `${statusCode} ${statusMessage}`.trim();
  try {
    const { code, detail } = JSON.parse(body);
    why = `${statusCode} ${code}: ${detail}`;
  } catch {
    // Not one of ours; its status has to do.
  }
  const seconds = Number(headers['retry-after']);
  return new Refused(why, FINAL.has(statusCode), seconds > 0 ? seconds * 1000 : 0);
}
