import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { SseClient } from './sse-client.ts';
import { waitFor } from './wait-for.ts';

/** A client that resumes with Last-Event-ID and remembers, over all its connections, which event it got under which id. */
export class ReturningClient {
  readonly seen = new Map<number, string>();
  readonly #token: string;
  #connection: SseClient | undefined;
  #lastEventId: string | undefined;

  constructor(token: string) {
    this.#token = token;
  }

  /** Connects, as often as it is sent away: an instance that has just come back may not have its database yet. */
  async connect(service: Service): Promise<SseClient> {
    const headers: Record<string, string> =
      this.#lastEventId === undefined ? {} : { 'Last-Event-ID': this.#lastEventId };
    return waitFor(
      async () => {
        const connection = await SseClient.open(`${service.url}/v1/events`, this.#token, headers);
        this.#connection = connection;
        const has = (type: string): boolean => connection.messages.some((message) => message.type === type);
        await waitFor(() => connection.ended || has('caught-up'), { what: 'a stream' });
        if (!has('caught-up')) return undefined;
        this.#lastEventId ??= String((await connection.message('session')).data['cursor']);
        return connection;
      },
      { what: 'a stream that stays', timeoutMs: 15_000 },
    );
  }

  /** Takes note of what has come; no id may come with another event than before. */
  note(): this {
    for (const { id, data } of this.#connection?.events ?? []) {
      const event = String(data['n']);
      const known = this.seen.get(Number(id)) ?? event;
      expect(event, `the event under id ${id}`).to.equal(known);
      this.seen.set(Number(id), event);
    }
    this.#lastEventId = this.#connection?.lastEventId ?? this.#lastEventId;
    return this;
  }

  leave(): void {
    this.note();
    this.#connection?.close();
    this.#connection = undefined;
  }
}
