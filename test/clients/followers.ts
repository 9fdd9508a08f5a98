import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { EventSource } from 'eventsource';
import launchDarkly from 'launchdarkly-eventsource';
import { EVENT_TYPES } from '../../src/outbox/catalogue.ts';

/*
 * The clients that people use, each wired as docs/protocol.md tells its readers to.
 */

/** A client that follows a stream and keeps what its application got. */
export interface Follower {
  /** The type of every message, control messages too. */
  readonly types: string[];
  /** Ids of the outbox's events, as the application got them. */
  readonly ids: number[];
  close(): Promise<void>;
}

export type Follow = (url: string, token: string) => Follower;

const CONTROL = ['session', 'caught-up', 'cursor', 'reset', 'disconnect'];
export const MESSAGE_TYPES = [...Object.keys(EVENT_TYPES), ...CONTROL];

/** What the application got, in order. */
class Received {
  readonly types: string[] = [];
  readonly ids: number[] = [];

  take(type: string, id: string): void {
    this.types.push(type);
    if (!CONTROL.includes(type)) this.ids.push(Number(id));
  }
}

export const followWithEventsource: Follow = (url, token) => {
  const received = new Received();
  const source = new EventSource(url, {
    fetch: (input, init) =>
      fetch(input, { ...init, headers: { ...init.headers, Authorization: `Bearer ${token}` } }),
  });
  for (const type of MESSAGE_TYPES)
    source.addEventListener(type, ({ lastEventId }) => received.take(type, lastEventId));
  return { ...parts(received), close: async () => source.close() };
};

export const followWithLaunchDarkly: Follow = (url, token) => {
  const received = new Received();
  const source = new launchDarkly.EventSource(url, { headers: { Authorization: `Bearer ${token}` } });
  source.onerror = () => {};
  for (const type of MESSAGE_TYPES) {
    source.addEventListener(type, ({ lastEventId }: { lastEventId: string }) =>
      received.take(type, lastEventId),
    );
  }
  return { ...parts(received), close: async () => source.close() };
};

/** As its README has it, but for an `onclose` that throws. It takes an id as soon as it reads the line. */
export const followWithPlainFetchEventSource: Follow = (url, token) =>
  fetchEventSourceFollower(url, token, (input, init) => fetch(input, init));

/** With a `fetch` that sends the id of the last message that the application got. */
export const followWithFetchEventSource: Follow = (url, token) => {
  let last = '';
  return fetchEventSourceFollower(
    url,
    token,
    (input, init) => {
      const headers = new Headers(init?.headers);
      headers.delete('Last-Event-ID');
      if (last !== '') headers.set('Last-Event-ID', last);
      return fetch(input, { ...init, headers });
    },
    (id) => {
      last = id;
    },
  );
};

function fetchEventSourceFollower(
  url: string,
  token: string,
  fetchStream: typeof fetch,
  onId: (id: string) => void = () => {},
): Follower {
  const received = new Received();
  const stop = new AbortController();
  const ended = fetchEventSource(url, {
    headers: { Authorization: `Bearer ${token}` },
    signal: stop.signal,
    openWhenHidden: true,
    fetch: fetchStream,
    onmessage: ({ event, id }) => {
      received.take(event, id);
      if (id !== '') onId(id);
    },
    onclose: () => {
      throw new Error('the stream ended; connect again');
    },
  });
  const close = async (): Promise<void> => {
    stop.abort();
    await ended;
  };
  return { ...parts(received), close };
}

/** The loop around `curl -N` that docs/protocol.md gives to QA, taken from there. */
export async function curlFollow(): Promise<Follow> {
  const page = await readFile(new URL('../../docs/protocol.md', import.meta.url), 'utf8');
  const script = /```bash\n(# follow\.sh[\s\S]*?)```/.exec(page)?.[1];
  if (script === undefined) throw new Error('docs/protocol.md has no follow.sh');
  return (url, token) => {
    const received = new Received();
    // A process group of its own, so that curl ends with the shell.
    const shell = spawn('bash', ['-c', script, 'follow.sh', url, token], {
      stdio: ['ignore', 'pipe', 'ignore'],
      detached: true,
    });
    let rest = '';
    shell.stdout.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) {
        const [id = '', type = ''] = line.split('\t');
        received.take(type, id);
      }
    });
    return { ...parts(received), close: () => endGroup(shell) };
  };
}

async function endGroup(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.pid === undefined) return;
  const closed = once(child, 'close');
  process.kill(-child.pid, 'SIGKILL');
  await closed;
}

function parts({ types, ids }: Received): Pick<Follower, 'types' | 'ids'> {
  return { types, ids };
}

/**
 * `@microsoft/fetch-event-source` is written for a browser: it schedules with `window` and listens on `document`. This gives it
 * just that. @returns takes it away again
 */
export function lendBrowserGlobals(): () => void {
  const globals = { window: { fetch, setTimeout, clearTimeout }, document: new EventTarget() };
  Object.assign(globalThis, globals);
  return () => {
    for (const name of Object.keys(globals)) Reflect.deleteProperty(globalThis, name);
  };
}
