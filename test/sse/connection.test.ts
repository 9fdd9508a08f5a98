import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import { Connection } from '../../src/sse/connection.ts';

const STALL_MS = 300;

describe('the connection of a stream', () => {
  let server: Server;
  let client: IncomingMessage;
  let response: ServerResponse;
  let connection: Connection;
  let closed: Promise<boolean>;

  beforeEach(async () => {
    server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const call = request({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', agent: false });
    call.on('error', () => {});
    call.end();
    const [[, answer], incoming] = await Promise.all([
      once(server, 'request').then((parts) => {
        (parts[1] as ServerResponse).writeHead(200).flushHeaders();
        return parts as [IncomingMessage, ServerResponse];
      }),
      once(call, 'response').then(([message]) => message as IncomingMessage),
    ]);
    client = incoming;
    client.on('error', () => {});
    response = answer;
    closed = new Promise((resolve) => {
      connection = new Connection(response, { stallMs: STALL_MS, onClose: resolve });
    });
  });

  afterEach(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  /** Writes until the kernel takes no more, and then a little waits. */
  async function fill(): Promise<void> {
    client.pause();
    const bytes = Buffer.alloc(4000, 'x');
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
    expect(response.destroyed).to.equal(true);
  });

  it('cuts off a peer that does not read its last bytes', async () => {
    await fill();
    connection.end(Buffer.from('the last bytes'));
    expect(await closed).to.equal(true);
  });

  it('lets a peer be that has nothing to read', async () => {
    client.resume();
    connection.write(Buffer.from(':\n'));
    // Node's own idle time-out has passed, twice.
    for (let i = 0; i < 2; i += 1) {
      await once(response, 'timeout');
      connection.write(Buffer.from(':\n'));
    }
    expect(response.destroyed).to.equal(false);
    client.destroy();
    expect(await closed, 'stalled').to.equal(false);
  });

  it('has drained when more may be written, and also when nothing can be any more', async () => {
    await connection.drained();
    await fill();
    connection.write(Buffer.alloc(100_000, 'x'));
    let drained = false;
    const draining = connection.drained().then(() => {
      drained = true;
    });
    await setImmediate();
    expect(drained).to.equal(false);
    client.resume();
    await draining;
    expect(response.writableNeedDrain).to.equal(false);

    await fill();
    connection.write(Buffer.alloc(100_000, 'x'));
    const never = connection.drained();
    client.destroy();
    await never;
    await closed;
    await connection.drained();
  });

  it('takes nothing more once it has ended or closed', async () => {
    const received: string[] = [];
    client.on('data', (chunk) => received.push(String(chunk)));
    connection.end(Buffer.from('last'));
    connection.write(Buffer.from('more'));
    connection.end(Buffer.from('again'));
    await once(client, 'end');
    expect(received.join('')).to.equal('last');
    expect(await closed).to.equal(false);
    connection.write(Buffer.from('more'));
    connection.end(Buffer.from('again'));
    expect(connection.buffered).to.equal(0);
  });
});
