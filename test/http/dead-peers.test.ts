import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { endianness, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { DeadPeers, silentPairs } from '../../src/http/dead-peers.ts';
import { waitFor } from '../support/wait-for.ts';

/** As the kernel writes it; see https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html. */
function row(local: string, remote: string, state: string, retransmits: number): string {
  const count = retransmits.toString(16).padStart(8, '0').toUpperCase();
  return `   7: ${local} ${remote} ${state} 00000002:00000000 01:00000014 ${count}     0        0 1234 2 0 20 4 30 10 -1`;
}

const HEADING =
  '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode';

describe('clients that have vanished', () => {
  let dir: string;
  let server: Server;
  let sockets: Socket[];
  let clients: Socket[];

  before(function () {
    // The rows below are in this byte order.
    if (endianness() !== 'LE') this.skip();
  });

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'settlewire-dead-peers-'));
    sockets = [];
    server = createServer((socket) => sockets.push(socket.on('error', () => {}))).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    clients = [connect(port, '127.0.0.1'), connect(port, '127.0.0.1')];
    for (const client of clients) client.on('error', () => {});
    await waitFor(() => sockets.length === 2, { what: 'two connections' });
  });
  afterEach(async () => {
    for (const client of clients) client.destroy();
    server.close();
    await once(server, 'close');
    rmSync(dir, { recursive: true });
  });

  const hex = (port = 0): string => port.toString(16).padStart(4, '0').toUpperCase();

  it('are found by address and port of both ends, in each notation of the kernel', () => {
    const mapped = '0000000000000000FFFF00000100007F';
    const table = [
      HEADING,
      row('0100007F:1F90', '0200A8C0:C350', '01', 6),
      row(`${mapped}:1F90`, '0000000000000000FFFF00000200A8C0:C351', '01', 7),
      row('B80D0120000000000000000001000000:1F90', 'B80D0120000000000000000002000000:C352', '01', 15),
      row('0100007F:1F90', '0200A8C0:C353', '01', 5),
      row('0100007F:1F90', '0200A8C0:C354', '06', 9),
      '',
    ].join('\n');
    expect([...silentPairs(table, 6)]).to.deep.equal([
      '127.0.0.1:8080 192.168.0.2:50000',
      '127.0.0.1:8080 192.168.0.2:50001',
      '2001:db8::1:8080 2001:db8::2:50002',
    ]);
  });

  it('are cut off, and nobody else', async () => {
    const [dead, alive] = sockets;
    const table = join(dir, 'tcp');
    const line = row(`0100007F:${hex(dead?.localPort)}`, `0100007F:${hex(dead?.remotePort)}`, '01', 4);
    writeFileSync(table, `${HEADING}\n${line}\n`);
    const tables = [join(dir, 'missing'), table];
    const patient = new DeadPeers({ sockets: () => sockets, retries: 5, intervalMs: 5, tables });
    await patient.look();
    expect(patient.cut).to.equal(0);
    const peers = new DeadPeers({ sockets: () => sockets, retries: 4, intervalMs: 5, tables });
    peers.start();
    peers.start();
    await waitFor(() => peers.cut > 0, { what: 'one to be cut off' });
    await peers.stop();
    await peers.stop();
    expect(dead?.destroyed).to.equal(true);
    expect(alive?.destroyed).to.equal(false);
  });

  it('are left to the kernel with 0 retries', async () => {
    const table = join(dir, 'tcp');
    const [dead] = sockets;
    const line = row(`0100007F:${hex(dead?.localPort)}`, `0100007F:${hex(dead?.remotePort)}`, '01', 0);
    writeFileSync(table, `${HEADING}\n${line}\n`);
    const off = new DeadPeers({ sockets: () => sockets, retries: 0, intervalMs: 1, tables: [table] });
    off.start();
    await new Promise(setImmediate);
    await off.stop();
    expect(off.cut).to.equal(0);
  });
});
