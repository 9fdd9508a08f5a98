import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { Chunk } from '../../src/sse/chunk.ts';
import { Connection, streamHeaders } from '../../src/sse/connection.ts';
import { NO_DESCRIPTOR } from '../../src/sse/direct-write.ts';
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
    expect(stuck.connection.buffered, 'all of it is held').to.equal(Chunk.of('y'.repeat(BIG)).framed.length);
    batch.flush();
    stuck.connection.write(Chunk.of('after'), batch);
    first.connection.write(Chunk.of('after'), batch);
    second.connection.write(Chunk.of(' too'));
    await waitFor(() => second.body === 'to 1 too', { what: 'what is in no batch' });
    expect(first.body, 'what is in the next one').to.equal('to 0');
    batch.flush();
    behind.response.resume();
    stuck.response.resume();
    await waitFor(() => stuck.body.endsWith('after') && behind.body.endsWith('to 2'), {
      what: 'the last bytes',
    });
    await waitFor(() => first.body === 'to 0after', { what: 'the others' });
    expect(behind.body === `${'x'.repeat(BIG)}to 2`).to.equal(true);
    expect(stuck.body === `${'y'.repeat(BIG)}after`).to.equal(true);
  });

  it('keep their place before whatever else is written to one of them', async () => {
    const [writes, ends, again] = clients as [Client, Client, Client];
    const batch = new WriteBatch();
    const alone = new WriteBatch();
    again.connection.write(Chunk.of('first '), alone);
    for (const { connection } of [writes, ends]) connection.write(Chunk.of('first '), batch);
    writes.connection.write(Chunk.of('second'));
    ends.connection.end(Chunk.of('last'));
    again.connection.write(Chunk.of('second '), alone);
    await waitFor(() => again.body === 'first ', { what: 'the first, which is in no batch any more' });
    again.connection.write(Chunk.of('y'.repeat(BIG)), alone);
    again.connection.write(Chunk.of('third'), alone);
    batch.flush();
    alone.flush();
    await waitFor(() => again.body.endsWith('third'), { what: 'the last bytes' });
    await waitFor(() => ends.response.complete, { what: 'the end' });
    expect([writes.body, ends.body]).to.deep.equal(['first second', 'first last']);
    expect(again.body === `first second ${'y'.repeat(BIG)}third`).to.equal(true);
  });

  it('are kept no longer than until they have gone out, nor are their writers', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const batch = new WriteBatch();
    const kept: WeakRef<object>[] = [];
    const add = (): void => {
      const [bytes, writer] = [Buffer.alloc(100_000), { writeRest: () => {} }];
      kept.push(new WeakRef(bytes), new WeakRef(writer));
      batch.add(NO_DESCRIPTOR, bytes, writer);
    };
    for (let n = 0; n < 3; n += 1) add();
    batch.flush();
    await setImmediate();
    collect();
    expect(kept.filter((one) => one.deref() !== undefined)).to.deep.equal([]);
    batch.flush();
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
