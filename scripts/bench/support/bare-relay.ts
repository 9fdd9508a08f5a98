import { createServer, type Socket } from 'node:net';
import pg from 'pg';
import { servePart } from './child.ts';

export interface BareRelayInput {
  readonly databaseUrl: string;
  readonly pollIntervalMs: number;
}

export interface BareRelayReport {
  readonly port: number;
  /** Events read so far. */
  readonly events: number;
}

const QUIET_AFTER_MS = 1000;
const QUIET_INTERVAL_MS = 250;

/**
 * The least that delivering an outbox can cost: polls a table by its id, encodes each row, and writes to each wallet's socket what is its own.
 * It loses events that become visible late, asks nobody for a token, and holds nothing back for a slow socket. A client asks for `/WALLET`.
 */
servePart<BareRelayInput, BareRelayReport>(async ({ databaseUrl, pollIntervalMs }) => {
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const streams = await client.query({
    text: `select 'stream:' || id, substr(payer, 6) from streams`,
    rowMode: 'array',
  });
  const walletOf = new Map(streams.rows as [string, string][]);
  const sockets = new Map<string, Socket>();
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.once('data', (request) => {
      socket.write(
        'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n',
      );
      sockets.set(/^GET \/(\d+)/.exec(request.toString('latin1'))?.[1] ?? '', socket);
    });
  });
  const port = await new Promise<number>((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });

  let events = 0;
  const head = await client.query({
    text: 'select coalesce(max(id), 0) from plain_outbox',
    rowMode: 'array',
  });
  let cursor = Number(head.rows[0]?.[0]);
  const poll = async (): Promise<void> => {
    const { rows } = await client.query({
      name: 'poll',
      text: 'select id, topic, type, data::text from plain_outbox where id > $1 order by id limit 1000',
      values: [cursor],
      rowMode: 'array',
    });
    const pending = new Map<string, string>();
    for (const [id, topic, type, data] of rows as [string, string, string, string][]) {
      const wallet = walletOf.get(topic) ?? '';
      if (sockets.has(wallet))
        pending.set(wallet, `${pending.get(wallet) ?? ''}event: ${type}\ndata: ${data}\nid: ${id}\n\n`);
    }
    for (const [wallet, text] of pending)
      sockets.get(wallet)?.write(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
    events += rows.length;
    cursor = Number(rows.at(-1)?.[0] ?? cursor);
  };
  const follow = async (): Promise<never> => {
    let [had, hadAtMs] = [events, 0];
    for (;;) {
      const readAtMs = performance.now();
      await poll();
      if (events > had) [had, hadAtMs] = [events, readAtMs];
      // While another variant is measured it is to cost next to nothing.
      const intervalMs = readAtMs - hadAtMs > QUIET_AFTER_MS ? QUIET_INTERVAL_MS : pollIntervalMs;
      const pauseMs = Math.max(1, readAtMs + intervalMs - performance.now());
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  };
  // Whatever goes wrong ends the process, and with it the benchmark.
  void follow();
  return () => ({ port, events });
});
