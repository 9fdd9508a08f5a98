import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { Chunk } from '../../src/sse/chunk.ts';
import { Connection } from '../../src/sse/connection.ts';

const STALL_MS = 300;

// Where the parser is not the one that we know, the socket stays with node:http.
for (const how of ['taken from', 'left to'] as const) {
  describe(`the connection of a stream, its socket ${how} node:http`, () => {
    let server: Server;
    let client: IncomingMessage;
    let socket: Socket;
    let connection: Connection;
    let closed: Promise<boolean>;

    const parser = (): object => (socket as Socket & { parser: object }).parser;

    beforeEach(async () => {
      server = createServer((_request, response) => {
        socket = response.socket as Socket;
        if (how === 'left to') Object.assign(parser(), { close: null });
        response.writeHead(200);
        closed = new Promise((resolve) => {
          connection = new Connection(response, { stallMs: STALL_MS, onClose: resolve });
        });
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      const call = request({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false });
      call.on('error', () => {});
      call.end();
      [client] = await once(call, 'response');
      client.on('error', () => {});
      await setImmediate();
      expect(parser()).to.be.a(how === 'left to' ? 'object' : 'null');
      // node:http uses its parsers again, for other streams.
      if (how === 'left to') Reflect.deleteProperty(parser(), 'close');
    });

    afterEach(async () => {
      socket.destroy();
      server.close();
      await once(server, 'close');
    });

    /** Writes until the kernel takes no more, and then a little waits. */
    async function fill(): Promise<void> {
      client.pause();
      const bytes = Chunk.of('x'.repeat(4000));
      for (let quiet = 0; quiet < 3; quiet = connection.buffered > 0 ? quiet + 1 : 0) {
        if (connection.buffered === 0) connection.write(bytes);
        for (let i = 0; i < 5; i += 1) await setImmediate();
      }
    }

    it('cuts off a peer that makes no progress, even if little waits for it', async () => {
      await fill();
      expect(connection.buffered).to.be.within(1, 16_383);
      const startedAt = performance.now();
      expect(await closed, 'stalled').to.equal(true);
      expect(performance.now() - startedAt).to.be.within(STALL_MS - 100, STALL_MS * 10);
      expect(socket.destroyed).to.equal(true);
    });

    it('is gone at once when it is cut, whatever waits', async () => {
      await fill();
      connection.cut();
      expect(socket.destroyed).to.equal(true);
      expect(await closed, 'stalled').to.equal(false);
      expect(connection.buffered).to.equal(0);
    });

    it('has drained when nothing waits any more, however little did', async () => {
      await fill();
      let drained = false;
      const draining = connection.drained().then(() => {
        drained = true;
      });
      for (let turn = 0; turn < 5; turn += 1) await setImmediate();
      expect(drained).to.equal(false);
      client.resume();
      await draining;
      expect(connection.buffered).to.equal(0);
      await connection.drained();
    });

    it('cuts off a peer that does not read its last bytes', async () => {
      await fill();
      connection.end(Chunk.of('the last bytes'));
      expect(await closed).to.equal(true);
    });

    it('lets a peer be that has nothing to read, or has taken all in the end', async () => {
      client.resume();
      connection.write(Chunk.of(':\n'));
      // Node's own idle time-out passes.
      await once(socket, 'timeout');
      expect([socket.destroyed, socket.timeout]).to.deep.equal([false, 0]);
      await fill();
      expect(socket.timeout).to.equal(STALL_MS);
      client.resume();
      await once(socket, 'timeout');
      expect([socket.destroyed, socket.timeout]).to.deep.equal([false, 0]);
      client.destroy();
      expect(await closed, 'stalled').to.equal(false);
    });

    it('has drained when more may be written, and also when nothing can be any more', async () => {
      await connection.drained();
      await fill();
      connection.write(Chunk.of('x'.repeat(100_000)));
      let drained = false;
      const draining = connection.drained().then(() => {
        drained = true;
      });
      await setImmediate();
      expect(drained).to.equal(false);
      client.resume();
      await draining;
      expect(socket.writableNeedDrain).to.equal(false);

      await fill();
      connection.write(Chunk.of('x'.repeat(100_000)));
      const never = connection.drained();
      client.destroy();
      await never;
      await closed;
      await connection.drained();
    });

    it('takes nothing more once it has ended or closed', async () => {
      const received: string[] = [];
      client.on('data', (chunk) => received.push(String(chunk)));
      connection.end(Chunk.of('last'));
      connection.write(Chunk.of('more'));
      connection.end(Chunk.of('again'));
      await once(client, 'end');
      expect(received.join('')).to.equal('last');
      expect(client.complete).to.equal(true);
      expect(await closed).to.equal(false);
      connection.write(Chunk.of('more'));
      connection.end(Chunk.of('again'));
      expect(connection.buffered).to.equal(0);
    });

    it('closes with a peer that says it has no more to say, or that resets it', async () => {
      client.socket.end();
      expect(await closed).to.equal(false);
    });

    it('closes with a peer that resets it', async () => {
      client.socket.resetAndDestroy();
      expect(await closed).to.equal(false);
    });
  });
}

describe('a connection', () => {
  it('is refused to a response whose turn has not come', () => {
    expect(
      () => new Connection({ socket: null } as ServerResponse, { stallMs: 1, onClose: () => {} }),
    ).to.throw('turn');
  });
});
