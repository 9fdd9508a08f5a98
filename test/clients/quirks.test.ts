import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { expect } from 'chai';
import launchDarkly from 'launchdarkly-eventsource';
import { type Answer, ScriptedServer } from '../support/scripted-server.ts';
import { waitFor } from '../support/wait-for.ts';
import { CLIENTS, type Seen } from './bare-clients.ts';
import { lendBrowserGlobals } from './followers.ts';

/*
 * The table of quirks in docs/protocol.md, line by line. What is tested here is not ours; it is what the protocol is made for,
 * and what must be looked at again when one of these packages changes.
 */

function title(what: string, verdict: Record<string, string> = {}): string {
  const who = Object.keys(verdict).filter((name) => verdict[name] === 'gives up');
  return `after ${what} ${who.length === 0 ? 'nobody gives' : `${who.join(', ')} give`} up`;
}

const QUICK = 'retry: 20\n\n';
const PROBLEM = { 'Content-Type': 'application/problem+json' };
const STAY: Answer = { body: ': here\n', ending: 'stay' };

describe('what clients make of a server', () => {
  let takeBrowserGlobals: () => void;
  const servers: ScriptedServer[] = [];
  const clients: Seen[] = [];

  before(() => {
    takeBrowserGlobals = lendBrowserGlobals();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    await Promise.all(servers.splice(0).map((server) => server.stop()));
  });

  after(() => takeBrowserGlobals());

  async function meet(
    name: string,
    answers: readonly Answer[],
  ): Promise<{ seen: Seen; server: ScriptedServer }> {
    const server = await ScriptedServer.start(answers);
    servers.push(server);
    const seen = CLIENTS[name]?.(server.url);
    if (seen === undefined) throw new Error(`no client ${name}`);
    clients.push(seen);
    return { seen, server };
  }

  /** Whether a client whose stream broke comes back after this answer, or gives up for good. */
  async function verdict(name: string, answer: Answer): Promise<'comes back' | 'gives up'> {
    const { seen, server } = await meet(name, [{ body: QUICK, ending: 'cut' }, answer, STAY]);
    await server.request(2);
    await waitFor(() => seen.gaveUp || server.asked.length > 2, { what: `${name} to decide` });
    return seen.gaveUp ? 'gives up' : 'comes back';
  }

  const answers: Record<string, Answer> = {
    503: { status: 503, headers: { ...PROBLEM, 'Retry-After': '1' } },
    429: { status: 429, headers: { ...PROBLEM, 'Retry-After': '1' } },
    401: { status: 401, headers: PROBLEM },
    204: { status: 204, headers: {} },
    'a 200 that is no stream': { headers: { 'Content-Type': 'text/html' }, body: '<p>sign in</p>' },
    'the proper end of a stream': { body: `retry: 20\nevent: tick\ndata: 1\n\n` },
    'a stream that is cut off': { body: QUICK, ending: 'cut' },
  };
  const [up, back] = ['gives up', 'comes back'] as const;
  const verdicts: Record<string, Record<string, string>> = {
    503: { eventsource: up, 'launchdarkly-eventsource': back, 'fetch-event-source': back },
    429: { eventsource: up, 'launchdarkly-eventsource': up, 'fetch-event-source': back },
    401: { eventsource: up, 'launchdarkly-eventsource': up, 'fetch-event-source': back },
    204: { eventsource: up, 'launchdarkly-eventsource': up, 'fetch-event-source': back },
    'a 200 that is no stream': {
      eventsource: up,
      'launchdarkly-eventsource': back,
      'fetch-event-source': back,
    },
    // Without an onclose that throws.
    'the proper end of a stream': {
      eventsource: back,
      'launchdarkly-eventsource': back,
      'fetch-event-source': up,
    },
    'a stream that is cut off': {
      eventsource: back,
      'launchdarkly-eventsource': back,
      'fetch-event-source': back,
    },
  };
  for (const [what, answer] of Object.entries(answers)) {
    it(title(what, verdicts[what]), async () => {
      const found = await Promise.all(
        Object.keys(CLIENTS).map(async (name) => [name, await verdict(name, answer)] as const),
      );
      expect(Object.fromEntries(found)).to.deep.equal(verdicts[what]);
    });
  }

  /** The Last-Event-ID of the request that follows this stream, and what the application got of it. */
  async function resumeAfter(
    name: string,
    body: string,
  ): Promise<{ sent: string | undefined; got: string[] }> {
    const { seen, server } = await meet(name, [{ body: `retry: 20\n${body}`, ending: 'cut' }, STAY]);
    const { lastEventId } = await server.request(2);
    return { sent: lastEventId, got: seen.messages.map(({ data }) => data) };
  }

  async function resumeOfAll(
    body: string,
  ): Promise<Record<string, { sent: string | undefined; got: string[] }>> {
    const names = Object.keys(CLIENTS);
    const found = await Promise.all(names.map((name) => resumeAfter(name, body)));
    return Object.fromEntries(names.map((name, index) => [name, found[index] ?? { sent: 'none', got: [] }]));
  }

  it('only fetch-event-source takes the id at its line, before the block is complete', async () => {
    expect(await resumeOfAll('id: 1\ndata: one\n\nid: 2\ndata: tw')).to.deep.equal({
      eventsource: { sent: '1', got: ['one'] },
      'launchdarkly-eventsource': { sent: '1', got: ['one'] },
      'fetch-event-source': { sent: '2', got: ['one'] },
    });
  });

  it('a block with an id and no data: fetch-event-source hands it on, the others take not even the id', async () => {
    expect(await resumeOfAll('data: one\nid: 1\n\nid: 2\n\n')).to.deep.equal({
      eventsource: { sent: '1', got: ['one'] },
      'launchdarkly-eventsource': { sent: '1', got: ['one'] },
      'fetch-event-source': { sent: '2', got: ['one', ''] },
    });
  });

  it('a comment before an empty line is a message to fetch-event-source; a comment line alone is not', async () => {
    expect((await resumeAfter('fetch-event-source', 'data: one\nid: 1\n\n: \n\n')).got).to.deep.equal([
      'one',
      '',
    ]);
    for (const [name, { got }] of Object.entries(await resumeOfAll('data: one\nid: 1\n\n: \n'))) {
      expect(got, name).to.deep.equal(['one']);
    }
  });

  for (const name of Object.keys(CLIENTS)) {
    it(`${name} waits as long as retry says`, async () => {
      const { server } = await meet(name, [
        { body: 'retry: 400\n\n', ending: 'cut' },
        { body: QUICK, ending: 'cut' },
        STAY,
      ]);
      const [first, second, third] = [
        await server.request(1),
        await server.request(2),
        await server.request(3),
      ];
      expect(second.at - first.at).to.be.within(390, 900);
      // Less than any client's default of one second or three.
      expect(third.at - second.at).to.be.below(390);
    });

    it(`${name}: a new instance starts without an id`, async () => {
      const { seen, server } = await meet(name, [{ body: 'data: one\nid: 1\n\n', ending: 'stay' }]);
      await waitFor(() => seen.messages.length === 1, { what: 'the message' });
      const again = CLIENTS[name]?.(server.url);
      if (again !== undefined) clients.push(again);
      expect((await server.request(2)).lastEventId).to.equal(undefined);
    });
  }

  it('the lastEventId of a message without an id is the last one to launchdarkly-eventsource only', async () => {
    const found = await Promise.all(
      Object.keys(CLIENTS).map(async (name) => {
        const { seen } = await meet(name, [{ body: 'data: 1\nid: 1\n\ndata: 2\n\n', ending: 'stay' }]);
        await waitFor(() => seen.messages.length === 2, { what: 'both messages' });
        return [name, seen.messages[1]?.id];
      }),
    );
    expect(Object.fromEntries(found)).to.deep.equal({
      eventsource: '',
      'launchdarkly-eventsource': '1',
      'fetch-event-source': '',
    });
  });

  it('fetch-event-source leaves when its page is hidden and is back, with its id, when it is shown', async () => {
    const server = await ScriptedServer.start([{ body: 'data: six\nid: 6\n\n', ending: 'stay' }, STAY]);
    servers.push(server);
    const page: EventTarget & { hidden?: boolean } = Reflect.get(globalThis, 'document');
    const turn = (hidden: boolean): void => {
      page.hidden = hidden;
      page.dispatchEvent(new Event('visibilitychange'));
    };
    const stop = new AbortController();
    let got = 0;
    void fetchEventSource(server.url, {
      signal: stop.signal,
      onmessage: () => {
        got += 1;
      },
    });
    await waitFor(() => got === 1, { what: 'the message' });
    turn(true);
    await waitFor(() => server.open === 0, { what: 'the end of the connection' });
    turn(false);
    expect((await server.request(2)).lastEventId).to.equal('6');
    stop.abort();
  });

  it('launchdarkly-eventsource sends a Last-Event-ID of its options again and again, whatever it has had since', async () => {
    const server = await ScriptedServer.start([
      { body: `${QUICK}data: six\nid: 6\n\n`, ending: 'cut' },
      STAY,
    ]);
    servers.push(server);
    const source = new launchDarkly.EventSource(server.url, { headers: { 'Last-Event-ID': '5' } });
    source.onerror = () => {};
    expect((await server.request(2)).lastEventId).to.equal('5');
    source.close();
  });

  it('fetch-event-source adds its own id to a Last-Event-ID of its options, unless that is in lower case', async () => {
    const sent = async (header: string): Promise<string | undefined> => {
      const server = await ScriptedServer.start([
        { body: `${QUICK}data: six\nid: 6\n\n`, ending: 'cut' },
        STAY,
      ]);
      servers.push(server);
      const stop = new AbortController();
      void fetchEventSource(server.url, {
        headers: { [header]: '5' },
        signal: stop.signal,
        openWhenHidden: true,
      });
      const { lastEventId } = await server.request(2);
      stop.abort();
      return lastEventId;
    };
    expect(await sent('Last-Event-ID')).to.equal('5, 6');
    expect(await sent('last-event-id')).to.equal('6');
  });

  it('launchdarkly-eventsource without onerror ends the process at the first broken connection', async () => {
    const server = await ScriptedServer.start([{ status: 503 }]);
    servers.push(server);
    const script = `new (require('launchdarkly-eventsource').EventSource)(process.argv[1])`;
    const child = spawn(process.execPath, ['-e', script, server.url], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    const [code] = await once(child, 'close');
    expect(code).to.equal(1);
    expect(stderr).to.match(/Unhandled error|Unhandled 'error'/);
  });
});
