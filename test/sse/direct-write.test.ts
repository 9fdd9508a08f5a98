import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { Chunk } from '../../src/sse/chunk.ts';
import { Connection, streamHeaders } from '../../src/sse/connection.ts';
import { descriptorOf, mayWriteNow, NO_DESCRIPTOR, writeNow } from '../../src/sse/direct-write.ts';
import { seededRandom } from '../support/seeded-random.ts';
import { waitFor } from '../support/wait-for.ts';

const EVENT = Chunk.of('data: one\n\n');

describe('a write past the stream of a socket', () => {
  let server: Server;
  let socket: Socket;
  let connection: Connection;
  let reader: IncomingMessage;
  let closed: Promise<boolean>;
  /** What the peer got of the body. */
  let body = '';

  beforeEach(async () => {
    server = createServer((_request, response: ServerResponse) => {
      socket = response.socket as Socket;
      response.writeHead(200, streamHeaders());
      closed = new Promise((resolve) => {
        connection = new Connection(response, { stallMs: 5000, onClose: resolve });
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const call = request({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false });
    call.on('error', () => {});
    call.end();
    [reader] = await once(call, 'response');
    body = '';
    reader.setEncoding('latin1').on('data', (text: string) => {
      body += text;
    });
    reader.on('error', () => {});
    // The socket is taken from node:http first.
    await setImmediate();
    await setImmediate();
    expect(descriptorOf(socket)).to.be.greaterThan(2);
  });

  afterEach(async () => {
    reader.destroy();
    socket.destroy();
    server.close();
    await once(server, 'close');
  });

  it('is what an event makes, and its bytes arrive', async () => {
    const before = socket.bytesWritten;
    connection.write(EVENT);
    connection.write(EVENT);
    await waitFor(() => body === 'data: one\n\n'.repeat(2), { what: 'both events' });
    expect(socket.bytesWritten, 'that the stream has written').to.equal(before);
    expect(connection.buffered).to.equal(0);
  });

  it('keeps its place, however much of what came before still waits', async function () {
    this.timeout(20_000);
    const random = seededRandom(7);
    const before = socket.bytesWritten;
    let [expected, waited, free] = ['', 0, 0];
    for (let n = 0; n < 2500; n += 1) {
      const text = `${n} ${'x'.repeat(Math.floor(random() ** 3 * 60_000))}\n`;
      expected += text;
      if (connection.buffered > 0) waited += 1;
      else free += 1;
      connection.write(Chunk.of(text));
      // Now and then nothing is read until a good deal waits.
      if (n % 500 === 0) reader.pause();
      if (connection.buffered > 400_000) {
        reader.resume();
        if (n % 2 === 0) await connection.drained();
      }
      if (random() < 0.3) await setImmediate();
    }
    reader.resume();
    await waitFor(() => body.length >= expected.length, { what: 'everything' });
    expect(body === expected, 'the same bytes in the same order').to.equal(true);
    const byStream = socket.bytesWritten - before;
    expect(byStream, 'through the stream').to.be.within(400_000, expected.length / 2);
    expect([waited > 50, free > 500], `${waited} had to wait, ${free} had not`).to.deep.equal([true, true]);
  });

  it('takes what fits, and leaves the rest to the stream', async () => {
    reader.pause();
    const big = Buffer.alloc(32 * 1024 * 1024, 'x');
    const taken = writeNow(descriptorOf(socket), big);
    expect(taken).to.be.within(1, big.length - 1);
    expect(writeNow(descriptorOf(socket), big), 'a kernel that is full').to.equal(0);
    expect(socket.writableLength).to.equal(0);
  });

  it('counts as held in full as long as a part of it waits, and no longer', async () => {
    reader.pause();
    const big = Chunk.of('x'.repeat(32 * 1024 * 1024));
    connection.write(big);
    expect(socket.writableLength).to.be.within(1, big.length - 1);
    expect(connection.buffered).to.equal(big.framed.length);
    connection.write(EVENT);
    expect(connection.buffered).to.equal(big.framed.length + EVENT.framed.length);
    reader.resume();
    await connection.drained();
    expect(connection.buffered).to.equal(0);
    reader.pause();
    while (writeNow(descriptorOf(socket), big.bytes) > 0);
    connection.write(EVENT);
    expect(connection.buffered, 'of which nothing was taken').to.equal(EVENT.framed.length);
  });

  it('waits for what the stream holds back: corked, or on its way', () => {
    socket.cork();
    socket.write('corked');
    expect(mayWriteNow(socket, descriptorOf(socket))).to.equal(false);
    reader.pause();
    socket.uncork();
    socket.write(Buffer.alloc(32 * 1024 * 1024, 'x'));
    expect(mayWriteNow(socket, descriptorOf(socket))).to.equal(false);
  });

  it('never goes to whoever has the descriptor of a socket that is closed, in the step in which it is or later', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'settlewire-descriptor-'));
    const descriptor = descriptorOf(socket);
    const opened: number[] = [];
    try {
      socket.destroy();
      // The system gives out the lowest number that is free.
      while (!opened.includes(descriptor) && opened.length < 100)
        opened.push(openSync(join(dir, `file-${opened.length}`), 'w'));
      expect(opened, 'somebody else has the descriptor').to.include(descriptor);
      const others = join(dir, `file-${opened.indexOf(descriptor)}`);
      connection.write(EVENT);
      expect(mayWriteNow(socket, descriptor)).to.equal(false);
      connection.end(EVENT);
      await closed;
      connection.write(EVENT);
      expect(mayWriteNow(socket, descriptor)).to.equal(false);
      expect(readFileSync(others, 'utf8')).to.equal('');
    } finally {
      for (const one of opened) closeSync(one);
      rmSync(dir, { recursive: true });
    }
  });

  it('that fails closes the connection as the stream does', async () => {
    reader.socket.resetAndDestroy();
    const failing = (async () => {
      while (!socket.destroyed) {
        connection.write(EVENT);
        await setImmediate();
      }
    })();
    expect(await closed, 'stalled').to.equal(false);
    await failing;
  });

  it('is not made where node has no such handle', () => {
    const { _handle: handle } = socket as unknown as { _handle: object };
    class TCP {}
    for (const other of [
      undefined,
      null,
      new (class Other {
        readonly fd = 1;
      })(),
      new TCP(),
      Object.assign(new TCP(), { fd: -22 }),
    ]) {
      Object.assign(socket, { _handle: other });
      expect(descriptorOf(socket)).to.equal(NO_DESCRIPTOR);
    }
    Object.assign(socket, { _handle: handle });
    expect(mayWriteNow(socket, NO_DESCRIPTOR)).to.equal(false);
    expect(mayWriteNow(socket, descriptorOf(socket))).to.equal(true);
  });
});

describe('a socket over TLS', () => {
  it('is written to by its stream, which encrypts', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const plain = connect((server.address() as AddressInfo).port, '127.0.0.1');
    await once(plain, 'connect');
    const secure = new TLSSocket(plain, { isServer: true });
    secure.on('error', () => {});
    try {
      const { _handle: handle } = secure as unknown as { _handle: { fd: number } };
      expect(secure, 'which is a socket').to.be.instanceOf(Socket);
      expect(handle.fd, 'and has a descriptor').to.be.greaterThan(2);
      expect(descriptorOf(secure)).to.equal(NO_DESCRIPTOR);
    } finally {
      secure.destroy();
      plain.destroy();
      server.close();
      await once(server, 'close');
    }
  });
});
