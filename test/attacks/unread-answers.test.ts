import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { metric } from '../support/metrics.ts';
import { Responses } from '../support/responses.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';

/** What anybody may ask for without a credential. */
const REQUESTS: readonly [what: string, requestLine: string][] = [
  ['that the service is alive', 'GET /healthz HTTP/1.1'],
  ['that it is ready', 'GET /readyz HTTP/1.1'],
  ['a stream, and is refused', 'GET /v1/events HTTP/1.1'],
  ['what a page of another origin may ask for', 'OPTIONS /v1/events HTTP/1.1'],
];
/** Their answers are far more than two kernels keep for one connection. */
const IN_A_ROW = 10_000;

describe('somebody without a credential who asks and does not read', () => {
  let stage: Stage;
  const sockets: Socket[] = [];

  before(async () => {
    stage = await Stage.open({ STALL_SECONDS: '0.3', MAX_REQUESTS_PER_CONNECTION: String(IN_A_ROW) });
  });
  after(() => stage.close());
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  for (const [what, requestLine] of REQUESTS) {
    it(`holds no place among the connections: ${what}`, async () => {
      const responses = new Responses();
      const { hostname, port } = new URL(stage.service.url);
      const socket = connect(Number(port), hostname);
      sockets.push(socket);
      socket.on('error', () => {}).pause();
      await once(socket, 'connect');
      socket.write(`${requestLine}\r\nHost: x\r\n\r\n`.repeat(IN_A_ROW));
      await waitFor(() => responses.waiting > 0, { what: 'an answer that waits', timeoutMs: 20_000 });
      await waitFor(async () => (await metric(stage.service, 'settlewire_sockets')) === 0, {
        what: 'it to be cut off',
        timeoutMs: 8000,
      });
      responses.stop();
    });
  }
});
