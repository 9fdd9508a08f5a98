import { connect, type Options, type Reason, type Reset, type Status } from '../../src/client/client.ts';
import type { Connection } from '../../src/client/connection.ts';
import { waitFor } from './wait-for.ts';

/** A connection of the client, and what its application got. */
export class LiveClient {
  readonly connection: Connection;
  readonly ids: number[] = [];
  readonly types: string[] = [];
  readonly resets: Reset[] = [];
  readonly statuses: Status[] = [];

  constructor(options: Options, open: (options: Options) => Connection = connect) {
    this.connection = open(options);
    this.connection.on('event', ({ id, type }) => {
      this.ids.push(id);
      this.types.push(type);
    });
    this.connection.on('reset', (reset) => this.resets.push(reset));
    this.connection.on('status', (status) => this.statuses.push(status));
  }

  /** Why connections ended, in order. */
  get reasons(): Reason[] {
    return this.statuses.flatMap(({ state, reason }) =>
      (state === 'waiting' || state === 'closed') && reason !== undefined ? [reason] : [],
    );
  }

  get timesLive(): number {
    return this.statuses.filter(({ state }) => state === 'live').length;
  }

  async is(state: Status['state']): Promise<Status> {
    await waitFor(() => this.connection.status.state === state, { what: `a client that is ${state}` });
    return this.connection.status;
  }

  async has(id: number): Promise<void> {
    await waitFor(() => this.ids.includes(id), { what: `event ${id}`, timeoutMs: 15_000 });
  }

  close(): void {
    this.connection.close();
  }
}
