import type { ServerResponse } from 'node:http';
import { Socket } from 'node:net';

/*
 * The socket under a response.
 *
 * Why. Node's HTTP layer does two things for a stream that a stream of shared bytes does not need. It frames each write by itself:
 * three writes to the socket (size, bytes, line end), corked and put together again for every subscriber, where the same framing
 * could be part of the bytes that all of them share. And it keeps a parser, the request, the response and their headers for as long as
 * the stream is open, twice as much memory as the socket itself. So once the head is out, a stream writes its chunks to
 * the socket directly, and the socket is taken from the HTTP layer.
 *
 * How it stays correct. The head is Node's: it decides whether the body is chunked (HTTP/1.1) or ends with the connection (HTTP/1.0).
 * The head says `Connection: close`, so no request after this one is answered (RFC 9112, section 9.6), and nobody else ever writes to
 * this socket: what was asked for behind this request goes unanswered, and whoever goes on talking is cut off. A response whose turn
 * on its connection has not come has no socket, and a request whose body is still coming needs its parser: neither is taken. What
 * else the HTTP layer does for a socket (parse it, time it out, close it) ends with its listeners, which are removed; the parser is
 * given back. The parser and one listener have no public names; where they do not look as in Node 20, 22 and 24, the HTTP layer
 * keeps its part, and only the memory is not saved. From there on the socket's owner reads, times out, ends and closes.
 *
 * What it buys: see docs/benchmarks.md, "Fan-out" and "Memory".
 */

/** Of node:http's parser, what it takes to give one back. */
interface Parser {
  unconsume(): void;
  remove(): void;
  close(): void;
}

/** What only the HTTP layer listens to on a server's socket, before it is taken. */
const HTTP_EVENTS = ['data', 'drain', 'end', 'error', 'pause', 'resume', 'timeout'];
/** Its listener to the end of the connection; others have theirs, too. */
const HTTP_ON_CLOSE = /socketOnClose$/;

/**
 * Takes the socket of a response whose head has been sent from the HTTP layer; the response will not say when it closes.
 * @returns undefined if that cannot be done: then the response keeps it
 */
export function takeSocket(response: ServerResponse): Socket | undefined {
  const { socket, req } = response;
  if (!(socket instanceof Socket) || !req.complete) return undefined;
  const { parser } = socket as { parser?: unknown };
  if (!isParser(parser)) return undefined;
  response.detachSocket(socket);
  parser.unconsume();
  parser.remove();
  Object.assign(socket, { parser: null });
  Object.assign(parser, { incoming: null, outgoing: null, onIncoming: null, socket: null });
  // It may be at work further down the stack.
  setImmediate(() => parser.close());
  for (const event of HTTP_EVENTS) socket.removeAllListeners(event);
  for (const listener of socket.listeners('close'))
    if (HTTP_ON_CLOSE.test(listener.name)) socket.off('close', listener as () => void);
  return socket;
}

function isParser(parser: unknown): parser is Parser {
  return (['unconsume', 'remove', 'close'] as const).every(
    (name) => typeof (parser as Partial<Parser> | null | undefined)?.[name] === 'function',
  );
}
