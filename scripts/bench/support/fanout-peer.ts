/*
 * Other ways to write events to many SSE clients, each in a process of its own: a bare loop over sockets, Express' res.write, better-sse.
 * IPC: first `{ kind }`, answered by `{ port }`; then `{ publish: { events, perWrite, event } }`, which needs no answer.
 */
import { createServer, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { createChannel, createSession } from 'better-sse';
import express from 'express';

export type PeerKind = 'bare' | 'express' | 'better-sse';

export interface Publication {
  readonly events: number;
  /** Events in one write, by the bare loop. */
  readonly perWrite: number;
  /** Bytes of padding in each. */
  readonly padding: number;
}

/** Writes one round of events to everybody. */
type Write = (frames: readonly { readonly id: number; readonly data: string }[]) => void;

const HEAD =
  'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n';
/** Let the kernel catch up before more waits than this. */
const MOST_WAITING = 262_144;

const frame = (id: number, data: string): string => `event: test:happened\ndata: ${data}\nid: ${id}\n\n`;

function bareLoop(sockets: Set<Socket>): { port: Promise<number>; write: Write } {
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.once('data', () => {
      socket.write(HEAD);
      sockets.add(socket);
    });
  });
  const write: Write = (frames) => {
    const text = frames.map(({ id, data }) => frame(id, data)).join('');
    const chunk = Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
    for (const socket of sockets) socket.write(chunk);
  };
  return { port: portOf(server.listen(0, '127.0.0.1')), write };
}

function expressWrites(sockets: Set<Socket>): { port: Promise<number>; write: Write } {
  const responses = new Set<express.Response>();
  const app = express();
  app.get('/', (request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
    response.flushHeaders();
    sockets.add(request.socket);
    responses.add(response);
  });
  const write: Write = (frames) => {
    for (const { id, data } of frames) {
      const text = frame(id, data);
      for (const response of responses) response.write(text);
    }
  };
  return { port: portOf(app.listen(0, '127.0.0.1')), write };
}

function betterSse(sockets: Set<Socket>): { port: Promise<number>; write: Write } {
  const channel = createChannel();
  const app = express();
  app.get('/', async (request, response) => {
    const session = await createSession(request, response, {
      serializer: String,
      keepAlive: null,
      retry: null,
    });
    sockets.add(request.socket);
    channel.register(session);
  });
  const write: Write = (frames) => {
    for (const { id, data } of frames) channel.broadcast(data, 'test:happened', { eventId: String(id) });
  };
  return { port: portOf(app.listen(0, '127.0.0.1')), write };
}

const PEERS = { bare: bareLoop, express: expressWrites, 'better-sse': betterSse };

async function portOf(server: ReturnType<typeof createServer>): Promise<number> {
  await new Promise((resolve) => server.once('listening', resolve));
  return (server.address() as { port: number }).port;
}

const sockets = new Set<Socket>();
let peer: { port: Promise<number>; write: Write } | undefined;
let lastId = 1_000_000;

process.on('message', async (message: { kind?: PeerKind; publish?: Publication }) => {
  if (message.kind !== undefined) {
    peer = PEERS[message.kind](sockets);
    process.send?.({ port: await peer.port });
  }
  if (message.publish === undefined) return;
  const { events, perWrite, padding } = message.publish;
  for (let sent = 0; sent < events; sent += perWrite) {
    const frames = Array.from({ length: perWrite }, () => {
      lastId += 1;
      return { id: lastId, data: `{"n" : ${lastId}, "pad" : "${'x'.repeat(padding)}"}` };
    });
    peer?.write(frames);
    do await setImmediate();
    while ([...sockets].some(({ writableLength }) => writableLength > MOST_WAITING));
  }
});
process.on('disconnect', () => process.exit());
