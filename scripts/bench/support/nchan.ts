import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { waitFor } from '../../../test/support/wait-for.ts';
import { OWN_SESSION } from './own-session.ts';

const MODULE = '/usr/lib/nginx/modules/ngx_nchan_module.so';
/** Publications under way at a time. */
const PIPELINED = 4;

const configuration = (port: number, dir: string): string => `
load_module ${MODULE};
daemon off;
worker_processes 1;
pid ${dir}/pid;
error_log ${dir}/error.log warn;
events { worker_connections 20000; }
http {
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path ${dir}/b; proxy_temp_path ${dir}/p; fastcgi_temp_path ${dir}/f; uwsgi_temp_path ${dir}/u; scgi_temp_path ${dir}/s;
  nchan_shared_memory_size 256M;
  server {
    listen 127.0.0.1:${port};
    location = /publish { nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 5000; nchan_message_timeout 60s; }
    location = /subscribe { nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message newest; }
  }
}`;

/** nginx with nchan, one worker, and its publisher: a connection over which messages are posted. */
export class Nchan {
  readonly url: string;
  /** Of the worker. */
  readonly pid: number;
  readonly #publisher: Socket;
  readonly #stop: () => Promise<void>;

  private constructor(url: string, pid: number, publisher: Socket, stop: () => Promise<void>) {
    this.url = url;
    this.pid = pid;
    this.#publisher = publisher;
    this.#stop = stop;
  }

  /** @returns undefined if this machine has no nchan */
  static async start(): Promise<Nchan | undefined> {
    if (!existsSync(MODULE)) return undefined;
    const dir = mkdtempSync(join(tmpdir(), 'settlewire-nchan-'));
    const probe = createServer().listen(0, '127.0.0.1');
    await once(probe, 'listening');
    const { port } = probe.address() as AddressInfo;
    probe.close();
    writeFileSync(join(dir, 'nginx.conf'), configuration(port, dir));
    const nginx = spawn('/usr/sbin/nginx', ['-p', dir, '-c', join(dir, 'nginx.conf')], {
      ...OWN_SESSION,
      stdio: 'inherit',
    });
    const kill = (): void => void nginx.kill('SIGQUIT');
    process.on('exit', kill);
    const publisher = await waitFor(
      () =>
        new Promise<Socket>((resolve, reject) => {
          const socket = connect(port, '127.0.0.1', () => resolve(socket));
          socket.once('error', reject);
        }),
      { what: 'nginx to listen' },
    );
    const worker = await waitFor(() => childOf(nginx.pid ?? 0), { what: "nginx's worker" });
    return new Nchan(`http://127.0.0.1:${port}`, worker, publisher, async () => {
      publisher.destroy();
      nginx.kill('SIGTERM');
      await once(nginx, 'exit');
      process.off('exit', kill);
      rmSync(dir, { recursive: true, force: true });
    });
  }

  /** Posts so many messages, a few at a time; resolves when the last was accepted. */
  publish(events: number, padding: number): Promise<void> {
    const socket = this.#publisher;
    let sent = 0;
    let answered = 0;
    const send = (): void => {
      sent += 1;
      const body = `{"n" : ${1_000_000 + sent}, "pad" : "${'x'.repeat(padding)}"}`;
      socket.write(
        `POST /publish HTTP/1.1\r\nHost: x\r\nX-EventSource-Event: test:happened\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      );
    };
    return new Promise((resolve, reject) => {
      let rest = '';
      const onData = (bytes: Buffer): void => {
        const parts = (rest + bytes.toString('latin1')).split('HTTP/1.1 20');
        rest = parts.at(-1)?.slice(-'HTTP/1.1 2'.length) ?? '';
        for (let part = 1; part < parts.length; part += 1) {
          answered += 1;
          if (sent < events) send();
        }
        if (answered < events) return;
        socket.off('data', onData);
        resolve();
      };
      socket.on('data', onData).once('close', () => reject(new Error('nginx hung up')));
      while (sent < Math.min(PIPELINED, events)) send();
    });
  }

  stop(): Promise<void> {
    return this.#stop();
  }
}

/** The first child of a process; Linux only. */
function childOf(pid: number): number | undefined {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      if (Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === pid) return Number(name);
    } catch {}
  }
  return undefined;
}
