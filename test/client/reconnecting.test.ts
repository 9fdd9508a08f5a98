import { expect } from 'chai';
import type { Credentials } from '../../src/client/client.ts';
import { pauseMs } from '../../src/client/pause.ts';
import { LiveClient } from '../support/live-client.ts';
import { type Answer, ScriptedServer } from '../support/scripted-server.ts';
import { waitFor } from '../support/wait-for.ts';

const PROBLEM = { 'Content-Type': 'application/problem+json' };

function session(more: Record<string, unknown> = {}): string {
  const data = { cursor: 7, epoch: 'e', topics: [], heartbeatSeconds: 15, expiresAt: '', ...more };
  return `retry: 1\nevent: session\ndata: ${JSON.stringify(data)}\n\n`;
}
const CAUGHT_UP = 'event: caught-up\ndata: {"cursor":7}\nid: 7\n\n';
const disconnect = (reason: string, retryAfterMs = 1): string =>
  `event: disconnect\ndata: {"reason":"${reason}","retryAfterMs":${retryAfterMs}}\n\n`;
const refused = (status: number, code: string, headers = {}): Answer => ({
  status,
  headers: { ...PROBLEM, ...headers },
  body: JSON.stringify({ status, code }),
});
const STAY: Answer = { body: session() + CAUGHT_UP, ending: 'stay' };

describe('the client, when it has to come back', () => {
  let server: ScriptedServer;
  let client: LiveClient;

  afterEach(async () => {
    client.close();
    await server.stop();
  });

  async function meet(
    answers: readonly Answer[],
    credentials: Credentials = { bearer: () => 'one' },
    random = () => 0.5,
  ): Promise<void> {
    server = await ScriptedServer.start(answers);
    client = new LiveClient({ url: `${server.origin}/`, credentials, random });
  }

  const shown = (): string[] =>
    server.asked.map(({ url, authorization }) => `${authorization ?? '-'} ${url.replace('/v1/events', '')}`);

  it('asks for another token when the last has expired, and not before', async () => {
    const asked: boolean[] = [];
    const bearer = ({ rejected }: { rejected: boolean }): string => {
      asked.push(rejected);
      return rejected ? 'two' : 'one';
    };
    await meet(
      [
        { body: session() + CAUGHT_UP },
        { body: session() + CAUGHT_UP + disconnect('token_expired') },
        { body: session() + CAUGHT_UP + disconnect('session_revoked') },
        STAY,
      ],
      { bearer },
    );
    await server.request(4);
    await client.is('live');
    expect(asked).to.deep.equal([false, false, true, true]);
    expect(shown()).to.deep.equal(['Bearer one ', 'Bearer one ', 'Bearer two ', 'Bearer two ']);
    expect(client.reasons).to.deep.equal(['ended', 'token_expired', 'session_revoked']);
  });

  it('replaces a refused token once, at once, and then gives up', async () => {
    await meet([refused(401, 'token_expired'), STAY], {
      bearer: async ({ rejected }) => (rejected ? 'two' : 'one'),
    });
    await client.is('live');
    expect(shown()).to.deep.equal(['Bearer one ', 'Bearer two ']);
    client.close();
    await server.stop();

    await meet([refused(401, 'unauthenticated')], { ticket: ({ rejected }) => (rejected ? 'b' : 'a') });
    expect(await client.is('closed')).to.deep.equal({ state: 'closed', reason: 'unauthenticated' });
    expect(shown()).to.deep.equal(['- ?ticket=a', '- ?ticket=b']);
  });

  it('gives up with a cookie that is refused, and without any credential', async () => {
    await meet([refused(401, 'unauthenticated')], 'cookie');
    expect((await client.is('closed')).reason).to.equal('unauthenticated');
    expect(shown()).to.deep.equal(['- ']);
    client.close();
    await server.stop();

    await meet([STAY], { bearer: () => null });
    expect((await client.is('closed')).reason).to.equal('no_credential');
    expect(shown()).to.deep.equal([]);
  });

  it('comes back with the latest resume token, and shows its credential again when that is refused', async () => {
    await meet([
      { body: session({ resumeToken: 'r1' }) + CAUGHT_UP + session({ resumeToken: 'r2' }), ending: 'cut' },
      { body: session({ resumeToken: 'r3' }) + CAUGHT_UP },
      refused(401, 'unauthenticated'),
      STAY,
    ]);
    await server.request(4);
    await client.is('live');
    expect(shown()).to.deep.equal(['Bearer one ', '- ?resume=r2', '- ?resume=r3', 'Bearer one ']);
    expect(server.asked.map(({ lastEventId }) => lastEventId)).to.deep.equal([undefined, '7', '7', '7']);
  });

  it('goes on being live when the session comes again within the stream', async () => {
    await meet([
      { body: `${session() + CAUGHT_UP + session()}event: a:b\ndata: 1\nid: 8\n\n`, ending: 'stay' },
    ]);
    await client.has(8);
    expect(client.connection.status.state).to.equal('live');
  });

  it('stays away as long as Retry-After says, in seconds or until a date, or retryAfterMs', async () => {
    await meet([refused(503, 'unavailable', { 'Retry-After': '7' })]);
    expect(await client.is('waiting')).to.deep.equal({
      state: 'waiting',
      reason: 'unavailable',
      retryInMs: 7000,
    });
    client.close();
    await server.stop();

    const date = new Date(Date.now() + 60_000).toUTCString();
    await meet([refused(429, 'too_many_connections', { 'Retry-After': date })]);
    expect((await client.is('waiting')).retryInMs).to.be.within(30_000, 60_000);
    client.close();
    await server.stop();

    await meet([{ body: disconnect('too_many_connections', 9000) }]);
    expect((await client.is('waiting')).retryInMs).to.equal(9000);
  });

  for (const [what, answer, reason] of [
    [
      'a page of something in between',
      { headers: { 'Content-Type': 'text/html' }, body: '<p>' },
      'not_a_stream',
    ],
    ['a gateway without a service', { status: 502, headers: {}, body: 'Bad Gateway' }, 'http_502'],
    ["a gateway that knows no route in a deploy's middle", { status: 404, headers: {} }, 'http_404'],
    ['a problem that is none', { status: 500, headers: PROBLEM, body: '{' }, 'http_500'],
    ['a block that makes no sense', { body: 'event: session\ndata: {\n\n', ending: 'stay' }, 'network'],
    ['a block without an end', { body: `data: ${'x'.repeat(1_100_000)}`, ending: 'stay' }, 'network'],
    ['a connection that breaks before it answers', { body: '', ending: 'cut' }, 'network'],
  ] as const) {
    it(`comes back after ${what}`, async () => {
      await meet([{ body: 'retry: 1\n\n' }, answer, STAY]);
      await client.is('live');
      expect(client.reasons).to.deep.equal(['ended', reason]);
    });
  }

  for (const [status, reason] of [
    [403, 'http_403'],
    [401, 'http_401'],
  ] as const) {
    it(`takes a ${status} for an answer, whoever gives it`, async () => {
      await meet([{ status, headers: {} }]);
      expect((await client.is('closed')).reason).to.equal(reason);
    });
  }

  it('comes back when a credential could not be had, and does not wait for it for ever', async () => {
    let calls = 0;
    await meet([{ body: 'retry: 1\n\n' }, { body: `${session({ heartbeatSeconds: 0.02 })}` }, STAY], {
      bearer: () => {
        calls += 1;
        if (calls === 2) throw new Error('the issuer is away');
        return calls === 4 ? new Promise<string>(() => {}) : 'one';
      },
    });
    await client.is('live');
    expect(client.reasons).to.deep.equal(['ended', 'credential_failed', 'ended', 'silent']);
    expect(server.asked).to.have.length(3);
  });

  it('leaves a stream on which nothing comes, heartbeats neither', async () => {
    await meet([{ body: session({ heartbeatSeconds: 0.02 }) + CAUGHT_UP, ending: 'stay' }, STAY]);
    await server.request(2);
    await client.is('live');
    expect(client.reasons).to.deep.equal(['silent']);
    await waitFor(() => server.open === 1, { what: 'the silent connection to be closed' });
  });

  it('a listener that throws harms no other, and is not hidden', async () => {
    const thrown: unknown[] = [];
    const theirs = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => thrown.push(error));
    try {
      await meet([{ body: `${session() + CAUGHT_UP}event: a:b\ndata: 1\nid: 8\n\n`, ending: 'stay' }]);
      const mistake = new Error('in a listener');
      client.connection.on('event', () => {
        throw mistake;
      });
      const after: number[] = [];
      client.connection.on('event', ({ id }) => after.push(id));
      await waitFor(() => thrown.length === 1, { what: 'the mistake' });
      expect(thrown).to.deep.equal([mistake]);
      expect(after).to.deep.equal([8]);
      expect(client.connection.status.state).to.equal('live');
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of theirs) process.on('uncaughtException', listener);
    }
  });

  it('waits longer each time, spread out, and never less than it was told', () => {
    const inARow = (random: number): number[] =>
      [0, 1, 2, 3, 4, 9].map((failures) => pauseMs(failures, 1000, 0, random));
    expect(inARow(1)).to.deep.equal([1000, 1000, 2000, 4000, 8000, 30_000]);
    expect(inARow(0)).to.deep.equal([1000, 1000, 1000, 2000, 4000, 15_000]);
    expect(pauseMs(1, 1000, 5000, 0)).to.equal(5000);
    // Longer than timers can be, if it were believed.
    expect(pauseMs(1, 1000, 1e12, 0)).to.equal(300_000);
    expect(pauseMs(1, 1e12, 0, 0)).to.equal(300_000);
  });
});
