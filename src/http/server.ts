import {
  createServer,
  type RequestListener,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import type { Socket } from 'node:net';
import type { Metrics } from '../admin/metrics.ts';
import type { Config } from '../config.ts';
import { DeadPeers } from './dead-peers.ts';
import { Problem, problemBody } from './errors.ts';
import type { ProblemCode } from './problems.ts';
import { Sockets } from './sockets.ts';

/** How often Node looks for clients that take too long over a request, in milliseconds. */
const CHECK_INTERVAL_MS = 500;

type ServerSettings = Pick<
  Config,
  | 'headersSeconds'
  | 'requestSeconds'
  | 'keepAliveSeconds'
  | 'maxHeaderBytes'
  | 'maxRequestsPerConnection'
  | 'maxOtherConnections'
  | 'stallSeconds'
  | 'deadPeerRetries'
  | 'heartbeatSeconds'
>;

/**
 * The server of the public port, with a bound on everything that a client can take its time over or send too much of before a
 * route sees it. Not listening yet.
 * @param metrics which tell about its connections
 * @param streams how many of its connections carry a stream
 */
export function createPublicServer(
  listener: RequestListener,
  settings: ServerSettings,
  metrics: Pick<Metrics, 'watch' | 'watchTotal' | 'problem'>,
  streams: () => number,
): Server {
  const server = createServer({
    maxHeaderSize: settings.maxHeaderBytes,
    headersTimeout: settings.headersSeconds * 1000,
    requestTimeout: settings.requestSeconds * 1000,
    keepAliveTimeout: settings.keepAliveSeconds * 1000,
    connectionsCheckingInterval: CHECK_INTERVAL_MS,
  });
  server.maxRequestsPerSocket = settings.maxRequestsPerConnection;
  const sockets = new Sockets(server, { maxWithoutStream: settings.maxOtherConnections, streams });
  server.on('request', (request, response) => {
    cutIfStalled(response, settings.stallSeconds * 1000);
    const target = originForm(request.url ?? '');
    if (target === undefined) {
      metrics.problem('bad_request');
      const body = problemBody(new Problem('bad_request'));
      response.writeHead(400, { ...PROBLEM_HEADERS, 'Content-Length': Buffer.byteLength(body) }).end(body);
      return;
    }
    request.url = target;
    listener(request, response);
  });
  // An expectation that nobody knows is no reason to refuse (RFC 9110, section 10.1.1: may).
  server.on('checkExpectation', (request, response) => server.emit('request', request, response));
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    // In the middle of an answer, which may be a stream, not a byte of another one.
    if (sockets.isAnswering(socket) || !socket.writable) socket.destroy();
    else {
      const code = codeOf(error);
      metrics.problem(code);
      socket.write(rawProblem(code));
      socket.destroySoon();
    }
  });
  watchSockets(server, sockets, settings, metrics);
  return server;
}

/**
 * Cuts off a client that takes nothing of an answer for so long, whatever the answer: those to nobody in particular, asked for in
 * a row and never read, would hold their connections for ever. A stream sees to it by itself once it has taken its socket.
 */
function cutIfStalled(response: ServerResponse, stallMs: number): void {
  response.setTimeout(stallMs, () => {
    if (response.writableLength > 0) response.destroy();
  });
}

/** Counts the connections and, while the server listens, cuts off clients that have vanished. */
function watchSockets(
  server: Server,
  sockets: Sockets,
  { deadPeerRetries, heartbeatSeconds }: ServerSettings,
  metrics: Pick<Metrics, 'watch' | 'watchTotal'>,
): void {
  const deadPeers = new DeadPeers({
    sockets: () => sockets,
    retries: deadPeerRetries,
    intervalMs: heartbeatSeconds * 1000,
  });
  server.on('listening', () => deadPeers.start());
  server.on('close', () => void deadPeers.stop());
  metrics.watch('settlewire_sockets', 'Connections to the public port.', () => sockets.open);
  metrics.watchTotal(
    'settlewire_socket_evictions',
    'Connections cut because too many carried no stream.',
    () => sockets.evictions,
  );
  metrics.watchTotal(
    'settlewire_dead_peers',
    'Connections cut because the client had vanished.',
    () => deadPeers.cut,
  );
}

const PROBLEM_HEADERS = {
  'Content-Type': 'application/problem+json; charset=utf-8',
  'Cache-Control': 'no-store',
};

/**
 * A request's target without scheme and host, which a server must take (RFC 9112, section 3.2.2).
 * @returns undefined if it is no target
 */
function originForm(target: string): string | undefined {
  if (target.startsWith('/') || target === '*') return target;
  if (!/^https?:\/\//i.test(target) || !URL.canParse(target)) return undefined;
  const { pathname, search } = new URL(target);
  return pathname + search;
}

/** What Node's parser and its time-outs find wrong with a request, as a problem. */
function codeOf({ code }: NodeJS.ErrnoException): ProblemCode {
  if (code === 'HPE_HEADER_OVERFLOW') return 'headers_too_large';
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return 'payload_too_large';
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'request_timeout';
  return 'bad_request';
}

function rawProblem(code: ProblemCode): string {
  const problem = new Problem(code);
  const body = problemBody(problem);
  return [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    ...Object.entries(PROBLEM_HEADERS).map(([name, value]) => `${name}: ${value}`),
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}
