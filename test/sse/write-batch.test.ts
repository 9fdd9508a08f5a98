import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { Chunk } from '../../src/sse/chunk.ts';
import { Connection, streamHeaders } from '../../src/sse/connection.ts';
import { WriteBatch } from '../../src/sse/write-batch.ts';
import { waitFor } from '../support/wait-for.ts';

/** Fills the kernel's buffers of a connection. */
const BIG = 32 * 1024 * 1024;

interface Client {
  readonly connection: Connection;
  readonly socket: Socket;
  readonly response: IncomingMessage;
  body: string;
}

describe('writes that go out together', () => {
  let server: Server;
  const clients: Client[] = [];
  let accepted: { connection: Connection; socket: Socket }[];

  beforeEach(async () => {
    clients.length = 0;
    accepted = [];
    server = createServer((_request, response) => {
      const socket = response.socket as Socket;
      response.writeHead(200, streamHeaders());
      accepted.push({ connection: new Connection(response, { stallMs: 5000, onClose: () => {} }), socket });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    for (let n = 0; n < 4; n += 1) {
      const [response] = (await once(get({ port, host: '127.0.0.1', agent: false }), 'response')) as [
        IncomingMessage,
      ];
      const client: Client = { ...(accepted[n] as (typeof accepted)[number]), response, body: '' };
      response.setEncoding('latin1').on('data', (text: string) => {
        client.body += text;
      });
      response.on('error', () => {});
      clients.push(client);
    }
    // The sockets are taken from node:http first.
    await setImmediate();
    await setImmediate();
  });

  afterEach(async () => {
    for (const { socket } of clients) socket.destroy();
    server.close();
    await once(server, 'close');
  });

  it('go out when it is flushed, each once, and those who must wait get theirs in their place', async () => {
    const [first, second, behind, stuck] = clients as [Client, Client, Client, Client];
    const batch = new WriteBatch();
    behind.response.pause();
    behind.connection.write(Chunk.of('x'.repeat(BIG)));
    stuck.response.pause();
    for (const [n, { connection }] of clients.entries())
      connection.write(Chunk.of(n === 3 ? 'y'.repeat(BIG) : `to ${n}`), batch);
    await setImmediate();
    expect([first.body, second.body], 'before').to.deep.equal(['', '']);
    expect(stuck.connection.buffered).to.equal(0);
    batch.flush();
    expect(stuck.connection.buffered, 'what the kernel did not take').to.be.within(1, BIG);
    batch.flush();
    stuck.connection.write(Chunk.of('after'), batch);
    first.connection.write(Chunk.of('after'), batch);
    batch.flush();
    behind.response.resume();
    stuck.response.resume();
    await waitFor(() => stuck.body.endsWith('after') && behind.body.endsWith('to 2'), {
      what: 'the last bytes',
    });
    await waitFor(() => first.body === 'to 0after' && second.body === 'to 1', { what: 'the others' });
    expect(behind.body === `${'x'.repeat(BIG)}to 2`).to.equal(true);
    expect(stuck.body === `${'y'.repeat(BIG)}after`).to.equal(true);
  });

  it('do not go to a connection that has closed', async () => {
    const batch = new WriteBatch();
    const [gone, there] = clients as [Client, Client];
    gone.socket.destroy();
    for (const { connection } of clients) connection.write(Chunk.of('bytes'), batch);
    batch.flush();
    await waitFor(() => there.body === 'bytes', { what: 'the others' });
    expect(gone.body).to.equal('');
  });
});
