import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createPool } from '../../../src/database.ts';
import { migrate } from '../../../src/migrate.ts';
import { mintToken } from '../../../test/support/tokens.ts';
import type { PeerKind, Publication } from './fanout-peer.ts';
import { Load, type LoadOptions } from './load.ts';
import { Nchan } from './nchan.ts';
import { OWN_SESSION } from './own-session.ts';
import type { BenchPostgres } from './postgres.ts';
import { startBenchService } from './service.ts';

/** A server with its audience attached, that can be told to send events. */
export interface Target {
  readonly name: string;
  readonly url: string;
  /** Whose processor time counts. */
  readonly pid: number;
  readonly load: Load;
  /** Connections that get each event. */
  readonly audience: number;
  publish(publication: Publication): Promise<void> | void;
  stop(): Promise<void>;
}

export async function startPeer(name: PeerKind, connections: number): Promise<Target> {
  const child = fork(new URL('fanout-peer.ts', import.meta.url), {
    ...OWN_SESSION,
    execArgv: ['--import', 'tsx'],
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  child.send({ kind: name });
  const [{ port }] = (await once(child, 'message')) as [{ port: number }];
  const url = `http://127.0.0.1:${port}`;
  const load = await Load.open({ url, connections, requests: [{ path: '/' }] });
  return {
    name,
    url,
    pid: child.pid ?? 0,
    load,
    audience: connections,
    publish: (publish) => void child.send({ publish }),
    stop: async () => {
      await load.close();
      child.disconnect();
      await once(child, 'exit');
    },
  };
}

export async function startNchan(connections: number): Promise<Target | undefined> {
  const nchan = await Nchan.start();
  if (nchan === undefined) return undefined;
  const load = await Load.open({ url: nchan.url, connections, requests: [{ path: '/subscribe' }] });
  return {
    name: 'nchan',
    url: nchan.url,
    pid: nchan.pid,
    load,
    audience: connections,
    publish: ({ events, padding }) => nchan.publish(events, padding),
    stop: async () => {
      await load.close();
      await nchan.stop();
    },
  };
}

export interface SettlewireOptions {
  readonly postgres: BenchPostgres;
  readonly database: string;
  readonly connections: number;
  readonly topics: number;
  /** Most events that the relay takes in one read, and so in one batch. */
  readonly batchEvents: number;
  readonly environment?: Record<string, string>;
}

/** The actor of topic n, who is that topic. */
export function topicUser(n: number): string {
  return `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`;
}

/** What its streams ask for. */
export function topicRequests(topics: number): LoadOptions['requests'] {
  return Array.from({ length: topics }, (_, n) => ({
    path: `/v1/events?topic=user:${topicUser(n)}`,
    headers: { Authorization: `Bearer ${mintToken({ sub: topicUser(n) })}` },
  }));
}

/** The whole path: rows committed, relay, hub, sockets. */
export async function startSettlewire(name: string, options: SettlewireOptions): Promise<Target> {
  const { postgres, database, connections, topics, batchEvents, environment = {} } = options;
  await postgres.query('postgres', `create database ${database}`);
  await migrate({ connectionString: postgres.url(database), set: 'all' });
  const service = await startBenchService(postgres.url(database), {
    RELAY_BATCH_EVENTS: String(batchEvents),
    HEARTBEAT_SECONDS: '150',
    MAX_CONNECTIONS: '20000',
    MAX_OTHER_CONNECTIONS: '20000',
    ...environment,
  });
  const pool = createPool(postgres.url(database), { max: 1 });
  const load = await Load.open({
    url: service.url,
    connections,
    caughtUp: true,
    requests: topicRequests(topics),
  });
  return {
    name,
    url: service.url,
    pid: service.pid,
    load,
    audience: connections / topics,
    publish: async ({ events, padding }: Publication) => {
      await pool.query(
        `select outbox_publish('user:00000000-0000-4000-8000-' || lpad((n % $3)::text, 12, '0'), 'test:happened',
                               json_build_object('n', 1000000 + n, 'pad', repeat('x', $2)))
           from generate_series(1, $1) n`,
        [events, padding, topics],
      );
    },
    stop: async () => {
      await load.close();
      await pool.end();
      await service.terminate();
    },
  };
}
