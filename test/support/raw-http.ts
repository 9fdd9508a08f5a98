import { connect } from 'node:net';

/**
 * Sends the text as it is over a socket and returns what comes back until the server closes, or until `enough` is in it.
 * For what no HTTP client would send.
 */
export function rawHttp(url: string, text: string, enough?: string | RegExp): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => socket.write(text));
    let received = '';
    socket.setEncoding('latin1');
    socket.setTimeout(5000, () => socket.destroy(new Error(`no more than: ${received}`)));
    socket.on('data', (chunk: string) => {
      received += chunk;
      if (enough !== undefined && received.search(enough) >= 0) socket.destroy();
    });
    // A server that refuses before it has read everything resets the connection after its answer.
    socket.on('error', (error) => (received === '' ? reject(error) : resolve(received)));
    socket.on('close', () => resolve(received));
  });
}
