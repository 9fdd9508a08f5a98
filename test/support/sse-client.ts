import { EventEmitter, once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { createParser } from 'eventsource-parser';
import { waitFor } from './wait-for.ts';

export interface Message {
  readonly type: string;
  readonly data: Record<string, unknown>;
  /** As on the wire; undefined if the block had none. */
  readonly id: string | undefined;
}

/** What the service says about the stream, as opposed to events. */
const CONTROL = new Set(['session', 'caught-up', 'cursor', 'reset', 'disconnect']);

/** One SSE connection over a real socket that keeps whatever it gets. Reads eagerly unless paused. */
export class SseClient {
  readonly messages: Message[] = [];
  readonly comments: string[] = [];
  readonly retries: number[] = [];
  /** Everything received, as text. */
  raw = '';
  ended = false;
  readonly #request: ClientRequest;
  readonly #changed = new EventEmitter();
  response: IncomingMessage | undefined;

  private constructor(url: string, headers: Record<string, string>) {
    this.#request = request(url, { headers: { Accept: 'text/event-stream', ...headers }, agent: false });
    this.#request.on('error', () => this.#end());
    this.#request.on('response', (response) => this.#receive(response));
    this.#request.end();
  }

  /** Connects and resolves with the response's head. */
  static async open(
    url: string,
    token: string | undefined,
    headers: Record<string, string> = {},
  ): Promise<SseClient> {
    const client = new SseClient(
      url,
      token === undefined ? headers : { Authorization: `Bearer ${token}`, ...headers },
    );
    if (client.response === undefined) await once(client.#changed, 'response');
    return client;
  }

  get status(): number {
    return this.response?.statusCode ?? 0;
  }

  /** Events of the outbox, control messages left out. */
  get events(): Message[] {
    return this.messages.filter(({ type }) => !CONTROL.has(type));
  }

  /** Ids of the outbox's events, in the order in which they came. */
  get ids(): number[] {
    return this.events.map(({ id }) => Number(id));
  }

  /** What an `EventSource` would send as Last-Event-ID: the last id of a complete block. */
  get lastEventId(): string | undefined {
    return this.messages.findLast(({ id }) => id !== undefined)?.id;
  }

  /** Waits for a message of this type, past or to come. */
  message(type: string): Promise<Message> {
    return waitFor(() => this.messages.find((message) => message.type === type), {
      what: () =>
        `a ${type} message; ${this.status}, ended: ${this.ended}, last came: ${this.raw.slice(-300)}`,
    });
  }

  /** Waits until the replay is over. */
  async caughtUp(): Promise<this> {
    await this.message('caught-up');
    return this;
  }

  /** Waits until at least so many events of the outbox have come. */
  async received(count: number, timeoutMs = 15_000): Promise<Message[]> {
    await waitFor(() => this.events.length >= count, {
      what: () => `${count} events, have ${this.events.length}`,
      timeoutMs,
    });
    return this.events;
  }

  async untilEnded(): Promise<void> {
    await waitFor(() => this.ended, { what: 'the end of the stream' });
  }

  /** Stops reading; the kernel's buffers fill. */
  pause(): void {
    this.response?.pause();
  }

  resume(): void {
    this.response?.resume();
  }

  /** Cuts the connection. */
  close(): void {
    this.#request.destroy();
    this.#end();
  }

  #receive(response: IncomingMessage): void {
    this.response = response;
    const parser = createParser({
      onEvent: ({ event, data, id }) =>
        this.messages.push({ type: event ?? 'message', data: JSON.parse(data), id }),
      onComment: (comment) => this.comments.push(comment),
      onRetry: (retry) => this.retries.push(retry),
    });
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      this.raw += chunk;
      if (response.headers['content-type']?.startsWith('text/event-stream')) parser.feed(chunk);
    });
    response.on('error', () => {});
    response.on('close', () => this.#end());
    this.#changed.emit('response');
  }

  #end(): void {
    this.ended = true;
    this.#changed.emit('response');
  }
}
