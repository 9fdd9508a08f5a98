import { SseClient } from './sse-client.ts';
import { waitFor } from './wait-for.ts';

/** What a client asks for, as whom, and what it is owed. */
export interface Asking {
  readonly path: string;
  readonly token: string;
  /** The topics whose events it must get; undefined: every topic. */
  readonly topics: readonly string[] | undefined;
}

/** Longest time that a dropped client stays away, in milliseconds. */
const AWAY_MS = 200;
const RETRY_MS = 50;

/** A client that stays attached whatever happens: each time its stream ends it resumes with Last-Event-ID, as an `EventSource` does. */
export class Attached {
  readonly asking: Asking;
  readonly #where: () => string;
  readonly #ids: number[] = [];
  readonly #faults: string[] = [];
  #client: SseClient | undefined;
  #lastEventId: string | undefined;
  #over = false;
  #running: Promise<void> | undefined;
  /** Streams that it opened after its first. */
  resumes = 0;
  /** Attempts that brought no stream. */
  attempts = 0;

  /** @param where the service to connect to, asked each time anew */
  constructor(asking: Asking, where: () => string) {
    this.asking = asking;
    this.#where = where;
  }

  /** All ids of events so far, over all connections, in the order in which they came. */
  get ids(): number[] {
    return [...this.#ids, ...(this.#client?.ids ?? [])];
  }

  /** What must never happen: a reset, a refusal for good. */
  get faults(): readonly string[] {
    return this.#faults;
  }

  get live(): boolean {
    return this.#client?.messages.some(({ type }) => type === 'caught-up') === true && !this.#client.ended;
  }

  /** Attaches, and resolves when the first stream is live. */
  async attach(): Promise<void> {
    this.#running ??= this.#run();
    await waitFor(() => this.live, { what: `${this.asking.path} to be live`, timeoutMs: 15_000 });
  }

  /** Cuts the connection in the middle of whatever it does; the client comes back by itself. */
  drop(): void {
    this.#client?.close();
  }

  async detach(): Promise<void> {
    this.#over = true;
    this.drop();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#over) {
      await this.#follow();
      await pause(RETRY_MS + Math.random() * AWAY_MS);
    }
  }

  /** One connection, until it ends. */
  async #follow(): Promise<void> {
    const { path, token } = this.asking;
    const headers: Record<string, string> =
      this.#lastEventId === undefined ? {} : { 'Last-Event-ID': this.#lastEventId };
    const client = await SseClient.open(this.#where() + path, token, headers);
    this.#client = client;
    if (this.#over) client.close();
    while (!client.ended) await pause(5);
    this.#client = undefined;
    this.#ids.push(...client.ids);
    const session = client.messages.find(({ type }) => type === 'session');
    if (session === undefined) this.attempts += 1;
    else if (this.#lastEventId === undefined) this.#lastEventId = String(session.data['cursor']);
    else this.resumes += 1;
    this.#lastEventId = client.lastEventId ?? this.#lastEventId;
    for (const { type, data } of client.messages)
      if (type === 'reset') this.#faults.push(`reset: ${data['reason']}`);
    if (client.status >= 400 && client.status < 500)
      this.#faults.push(`refused: ${client.status} ${client.raw}`);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
