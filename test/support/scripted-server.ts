import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { waitFor } from './wait-for.ts';

/** What a scripted server says to one request. */
export interface Answer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  /** How the answer stops: at its proper end, cut off at once, or not at all (until {@link ScriptedServer.cut}). */
  readonly ending?: 'end' | 'cut' | 'stay';
}

export interface Asked {
  /** Path and query. */
  readonly url: string;
  readonly authorization: string | undefined;
  readonly lastEventId: string | undefined;
  /** Milliseconds of the process's clock. */
  readonly at: number;
}

const STREAM = { 'Content-Type': 'text/event-stream' };

/** A server that answers the requests for `/stream` and below `/v1/` one after the other as told, to see what clients make of it; the last answer serves all later ones. */
export class ScriptedServer {
  readonly #server: Server;
  readonly #answers: readonly Answer[];
  readonly asked: Asked[] = [];
  readonly #responses = new Set<ServerResponse>();

  private constructor(answers: readonly Answer[]) {
    this.#answers = answers;
    this.#server = createServer((request, response) => {
      const { url = '' } = request;
      if (url !== '/stream' && !url.startsWith('/v1/')) {
        response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>scripted</title>');
        return;
      }
      const { 'last-event-id': lastEventId, authorization } = request.headers;
      const answer = this.#answers[Math.min(this.asked.length, this.#answers.length - 1)];
      this.asked.push({
        url,
        authorization,
        lastEventId: typeof lastEventId === 'string' ? lastEventId : undefined,
        at: performance.now(),
      });
      this.#responses.add(response);
      response.once('close', () => this.#responses.delete(response));
      if (answer !== undefined) reply(response, answer);
    });
  }

  static async start(answers: readonly Answer[]): Promise<ScriptedServer> {
    const server = new ScriptedServer(answers);
    server.#server.listen(0, '127.0.0.1');
    await once(server.#server, 'listening');
    return server;
  }

  get url(): string {
    return `${this.origin}/stream`;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Waits for the n-th request, counted from one. */
  async request(number: number): Promise<Asked> {
    return waitFor(() => this.asked[number - 1], { what: `request ${number}`, timeoutMs: 8000 });
  }

  /** Streams that are being answered. */
  get open(): number {
    return this.#responses.size;
  }

  /** Breaks the connections of those streams. */
  cut(): void {
    for (const response of this.#responses) response.destroy();
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

function reply(
  response: ServerResponse,
  { status = 200, headers = STREAM, body = '', ending = 'end' }: Answer,
): void {
  response.writeHead(status, headers);
  if (ending === 'end') response.end(body);
  else response.write(body, () => ending === 'cut' && response.destroy());
}
