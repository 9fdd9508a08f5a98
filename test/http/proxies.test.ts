import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'chai';
import { FrontProxy } from '../support/front-proxy.ts';
import { needPrograms } from '../support/programs.ts';
import { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, outboxIds, type Person } from '../support/world.ts';

/** An idle time-out below and one above the service's heartbeats, in milliseconds. */
const BELOW = 500;
const HEARTBEAT_MS = 1000;
const ABOVE = 2500;

describe('a stream through a proxy', function () {
  this.timeout(30_000);
  let stage: Stage;
  let person: Person;
  let nginx: FrontProxy;
  let haproxy: FrontProxy;
  let caddy: FrontProxy;
  const clients: SseClient[] = [];
  const curls: ChildProcess[] = [];

  before(async function () {
    needPrograms(this, 'nginx', 'haproxy', 'caddy', 'openssl', 'curl');
    stage = await Stage.open({ HEARTBEAT_SECONDS: String(HEARTBEAT_MS / 1000) });
    person = await makePerson(stage.pool, 1);
    await stage.settled();
    const { port } = new URL(stage.service.url);
    nginx = await FrontProxy.nginx(
      4,
      ([old, recent, hasty, secure], dir) => `
        server { listen 127.0.0.1:${old}; location / { proxy_pass http://127.0.0.1:${port}; proxy_read_timeout ${ABOVE}ms; } }
        upstream service { server 127.0.0.1:${port}; keepalive 4; }
        server { listen 127.0.0.1:${recent};
          location / { proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_read_timeout ${ABOVE}ms; } }
        server { listen 127.0.0.1:${hasty}; location / { proxy_pass http://127.0.0.1:${port}; proxy_read_timeout ${BELOW}ms; } }
        server { listen 127.0.0.1:${secure} ssl http2; ssl_certificate ${dir}/cert.pem; ssl_certificate_key ${dir}/key.pem;
          location / { proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection ""; } }`,
    );
    haproxy = await FrontProxy.haproxy(
      1,
      ([front]) => `
defaults
  mode http
  timeout connect 1s
  timeout client ${ABOVE}ms
  timeout server ${ABOVE}ms
frontend front
  bind 127.0.0.1:${front}
  default_backend service
backend service
  server one 127.0.0.1:${port}`,
    );
    caddy = await FrontProxy.caddy(
      2,
      ([plain, secure], dir) => `
http://127.0.0.1:${plain} {
	reverse_proxy 127.0.0.1:${port} {
		transport http {
			read_timeout ${ABOVE}ms
		}
	}
}
https://localhost:${secure} {
	tls ${dir}/cert.pem ${dir}/key.pem
	@others not path */events
	encode @others gzip
	reverse_proxy 127.0.0.1:${port}
}`,
    );
  });

  afterEach(() => {
    for (const client of clients.splice(0)) client.close();
    for (const curl of curls.splice(0)) curl.kill();
  });

  after(async () => {
    await Promise.all([nginx?.stop(), haproxy?.stop(), caddy?.stop()]);
    await stage?.close();
  });

  async function connect(port: number | undefined, headers: Record<string, string> = {}): Promise<SseClient> {
    const url = `http://127.0.0.1:${port}/v1/events?topic=user:${person.id}`;
    const client = await SseClient.open(url, person.token, headers);
    clients.push(client);
    return client.caughtUp();
  }

  const PROXIES: Record<string, () => number | undefined> = {
    'nginx as it comes, HTTP/1.0 to the service': () => nginx.ports[0],
    'nginx with HTTP/1.1 to the service and connections kept': () => nginx.ports[1],
    HAProxy: () => haproxy.ports[0],
    Caddy: () => caddy.ports[0],
  };

  for (const [name, port] of Object.entries(PROXIES)) {
    it(`${name}: each event comes at once, silence is no end, and the end is one`, async () => {
      const client = await connect(port());
      // Nothing that follows could push an event out of a proxy's buffer: each is waited for before the next is made.
      for (let n = 1; n <= 5; n += 1) {
        await stage.publish(`user:${person.id}`);
        await client.received(n);
      }
      // Heartbeats for longer than the idle time-out.
      const before = client.comments.length;
      await waitFor(() => client.comments.length >= before + Math.ceil((1.5 * ABOVE) / HEARTBEAT_MS), {
        what: 'heartbeats',
        timeoutMs: 10_000,
      });
      expect(client.ended).to.equal(false);
      for (const subscriber of stage.service.hub.subscribers) subscriber.end('max_age');
      await client.untilEnded();
      expect(client.messages.at(-1)?.type).to.equal('disconnect');
      const again = await connect(port(), { 'Last-Event-ID': client.lastEventId ?? '' });
      await stage.publish(`user:${person.id}`);
      await again.received(1);
    });
  }

  it('nginx with an idle time-out below the heartbeats: streams are cut, and clients that resume lose nothing', async () => {
    const from = stage.cursor;
    const got: number[] = [];
    let lastEventId = String(from);
    for (let round = 0; round < 3; round += 1) {
      const client = await connect(nginx.ports[2], { 'Last-Event-ID': lastEventId });
      await stage.publish(`user:${person.id}`, 2);
      await client.untilEnded();
      await stage.publish(`user:${person.id}`);
      got.push(...client.ids);
      lastEventId = client.lastEventId ?? lastEventId;
    }
    const last = await connect(nginx.ports[2], { 'Last-Event-ID': lastEventId });
    got.push(...last.ids);
    expect(got).to.deep.equal(await outboxIds(stage.pool, [`user:${person.id}`], from));
    await waitFor(() => stage.service.hub.subscribers.size === 0, { what: 'the service to see them go' });
  });

  const SECURE: Record<string, () => number | undefined> = {
    nginx: () => nginx.ports[3],
    'Caddy, told to compress what is no stream': () => caddy.ports[1],
  };
  for (const [name, port] of Object.entries(SECURE))
    it(`${name}, speaking HTTP/2 over TLS to curl: events come at once, uncompressed`, async () => {
      const curl = spawn('curl', [
        ...['-sNk', '--http2', '--compressed', '-D', '-', '-H', `Authorization: Bearer ${person.token}`],
        `https://localhost:${port()}/v1/events?topic=user:${person.id}`,
      ]);
      curls.push(curl);
      let said = '';
      curl.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      await waitFor(() => said.includes('event: caught-up'), { what: 'the stream' });
      expect(said)
        .to.match(/^HTTP\/2 200/)
        .and.not.to.match(/content-encoding/i);
      for (let n = 1; n <= 3; n += 1) {
        const id = await stage.publish(`user:${person.id}`);
        await waitFor(() => said.includes(`id: ${id}\n\n`), { what: 'the event' });
      }
      const ended = once(curl, 'exit');
      curl.kill();
      await ended;
      await waitFor(() => stage.service.hub.subscribers.size === 0, { what: 'the service to see it go' });
    });
});
