import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { expect } from 'chai';
import fc from 'fast-check';
import { Chunk } from '../../src/sse/chunk.ts';
import { Connection, streamHeaders } from '../../src/sse/connection.ts';
import { takeSocket } from '../../src/sse/wire.ts';
import { WriteBatch } from '../../src/sse/write-batch.ts';
import { waitFor } from '../support/wait-for.ts';

const GET = 'GET / HTTP/1.1\r\nHost: x\r\n\r\n';
const ONE = Chunk.of('data: ünö\n\n');
const TWO = Chunk.of(`data: ${'2'.repeat(300)}\n\n`);

describe('a stream below node:http', () => {
  let server: Server;
  let peer: Socket;
  let received = '';
  /** What the server makes of each request, in order. */
  let answers: ((request: IncomingMessage, response: ServerResponse) => void)[];
  const streams: Connection[] = [];
  const sockets: (Socket | null)[] = [];
  let closed = 0;

  const stream = (_request: IncomingMessage, response: ServerResponse): void => {
    response.writeHead(200, streamHeaders(7));
    sockets.push(response.socket);
    streams.push(new Connection(response, { stallMs: 5000, onClose: () => (closed += 1) }));
  };

  beforeEach(async () => {
    streams.length = 0;
    closed = 0;
    received = '';
    answers = [stream];
    server = createServer((request, response) => answers.shift()?.(request, response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    peer = connect((server.address() as AddressInfo).port, '127.0.0.1');
    peer.setEncoding('utf8').on('data', (text: string) => {
      received += text;
    });
    peer.on('error', () => {});
  });

  afterEach(async () => {
    peer.destroy();
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  async function opened(): Promise<Connection> {
    await waitFor(() => streams.length > 0 && received.includes('\r\n\r\n'), { what: 'the stream' });
    await setImmediate();
    return streams[0] as Connection;
  }

  const body = (): string =>
    received.slice(received.lastIndexOf('\r\n\r\n', received.indexOf('\r\n\r\n')) + 4);

  it('is a chunked body with a proper end, and the connection ends with it', async () => {
    peer.write(GET);
    const connection = await opened();
    connection.write(ONE);
    connection.write(Chunk.join([ONE, TWO]));
    connection.end(TWO);
    await once(peer, 'close');
    const [head = ''] = received.split('\r\n\r\n');
    expect(head.toLowerCase()).to.contain('transfer-encoding: chunked').and.to.contain('connection: close');
    const sizes = [ONE.length, ONE.length + TWO.length, TWO.length].map((size) => size.toString(16));
    const [one, two] = [ONE, TWO].map(({ bytes }) => bytes.toString());
    expect(body()).to.equal(
      `${sizes[0]}\r\n${one}\r\n${sizes[1]}\r\n${one}${two}\r\n${sizes[2]}\r\n${two}\r\n0\r\n\r\n`,
    );
    expect(closed).to.equal(1);
  });

  it('gives nothing to the kernel behind the last chunk', async () => {
    peer.write(GET);
    const connection = await opened();
    connection.end(ONE);
    const batch = new WriteBatch();
    connection.write(TWO, batch);
    connection.write(TWO);
    batch.flush();
    await once(peer, 'close');
    expect(body()).to.equal(`${ONE.length.toString(16)}\r\n${ONE.bytes}\r\n0\r\n\r\n`);
  });

  it('is the bare bytes for HTTP/1.0, which knows no chunks', async () => {
    peer.write('GET / HTTP/1.0\r\n\r\n');
    const connection = await opened();
    connection.write(ONE);
    connection.end(TWO);
    await once(peer, 'close');
    expect(received.toLowerCase()).not.to.contain('transfer-encoding');
    expect(body()).to.equal(`${ONE.bytes}${TWO.bytes}`);
  });

  it('may be asked for on a connection that has had other answers', async () => {
    answers = [(_request, response) => response.end('first'), stream];
    peer.write(GET);
    await waitFor(() => received.endsWith('first'), { what: 'the first answer' });
    peer.write(GET);
    await waitFor(() => received.includes('event-stream'), { what: 'the stream' });
    const connection = await opened();
    connection.write(ONE);
    await waitFor(() => received.endsWith(`${ONE.bytes}\r\n`), { what: 'a chunk' });
  });

  it('is the last answer of its connection: what is asked for behind it is not, and disturbs nothing', async () => {
    answers = [stream, (_request, response) => response.end('second'), stream];
    peer.write(GET + GET);
    const connection = await opened();
    connection.write(TWO);
    connection.end(ONE);
    await once(peer, 'close');
    expect(received).not.to.contain('second');
    expect(received.match(/HTTP\/1\.1/g)).to.have.length(1);
    expect(received.endsWith('0\r\n\r\n')).to.equal(true);
  });

  it('ends when its peer, who has nothing to say, goes on talking', async () => {
    peer.write(GET);
    await opened();
    peer.write('x');
    await once(peer, 'close');
    await waitFor(() => closed === 1, { what: 'the close' });
  });

  it('whose request has a body that is still coming waits with its parser', async () => {
    peer.write('GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nx');
    const connection = await opened();
    peer.write('xxx');
    connection.write(ONE);
    connection.end(TWO);
    await once(peer, 'close');
    expect(received.endsWith(`${TWO.bytes}\r\n0\r\n\r\n`)).to.equal(true);
    await waitFor(() => closed === 1, { what: 'the close' });
  });

  it('leaves alone those who wait for its connection to close', async () => {
    const closing = new Promise((resolve) => {
      server.once('connection', (socket: Socket) => socket.once('close', resolve));
    });
    peer.write(GET);
    await opened();
    peer.destroy();
    await closing;
  });

  it('keeps nothing that leads to its request: no parser, no response, no listener of node:http', async () => {
    peer.write(GET);
    const connection = await opened();
    const socket = sockets.at(-1) as Socket & { parser?: unknown; _httpMessage?: unknown };
    await waitFor(() => socket.parser === null && socket._httpMessage === null, {
      what: 'parser and response to be let go',
    });
    // Node's own are bound functions; ours are arrows without a name.
    const names = socket
      .eventNames()
      .filter((event) => event !== 'end')
      .flatMap((event) => socket.listeners(event).map(({ name }) => name))
      .filter((name) => name.startsWith('bound') || name.startsWith('socketOn'));
    expect(names.filter((name) => !name.includes('onceWrapper'))).to.deep.equal([]);
    connection.write(ONE);
    await waitFor(() => received.includes(ONE.bytes.toString()), { what: 'the stream to go on' });
  });

  it('is taken only from a socket of the kernel', () => {
    const socket = new Duplex();
    expect(takeSocket({ socket } as unknown as ServerResponse)).to.equal(undefined);
    expect(takeSocket({ socket: null } as unknown as ServerResponse)).to.equal(undefined);
  });
});

describe('a chunk', () => {
  it('of nothing does not exist: it would end the body', () => {
    expect(() => Chunk.of('')).to.throw(RangeError);
    expect(() => Chunk.join([])).to.throw(RangeError);
  });

  it('of one is that one', () => {
    expect(Chunk.join([ONE])).to.equal(ONE);
  });

  it('made with others is the same as made alone, in whatever order some of them are joined', () => {
    const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 30 });
    fc.assert(
      fc.property(
        fc.array(text, { maxLength: 12 }),
        fc.array(fc.nat(11), { minLength: 1 }),
        (texts, picks) => {
          const alone = texts.map(Chunk.of);
          const together = Chunk.each(texts);
          expect(together.map(({ framed }) => framed)).to.deep.equal(alone.map(({ framed }) => framed));
          expect(together.map(({ bytes }) => bytes)).to.deep.equal(alone.map(({ bytes }) => bytes));
          const picked = (from: Chunk[]): Chunk[] =>
            picks.flatMap((pick) => from[pick] ?? []).concat(from.slice(1, 3));
          if (picked(alone).length === 0) return;
          const [one, other] = [Chunk.join(picked(together)), Chunk.join(picked(alone))];
          expect([one.length, one.framed, one.bytes]).to.deep.equal([
            other.length,
            other.framed,
            other.bytes,
          ]);
        },
      ),
    );
  });

  it('made with others and joined with all of them again is not copied', () => {
    const [first, ...others] = Chunk.each(['eins', 'zw\u00f6', 'drei']);
    if (first === undefined) throw new Error('unreachable');
    const all = Chunk.join([first, ...others]);
    expect(all.bytes.toString()).to.equal('einszw\u00f6drei');
    expect(all.framed, 'no copy').to.equal(Chunk.join([first, ...others]).framed);
    expect(Chunk.join(others).framed.toString()).to.equal('8\r\nzw\u00f6drei\r\n');
    expect(Chunk.join([...others, first]).framed.toString()).to.equal('c\r\nzw\u00f6dreieins\r\n');
    expect(Chunk.each([])).to.deep.equal([]);
    expect(() => Chunk.each([''])).to.throw(RangeError);
  });
});
