import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { metric } from '../support/metrics.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { makeEscrow, makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';
import { Attacker, type Tally } from './attacker.ts';
import type { Loot } from './requests.ts';

const SECONDS = Number(process.env.FUZZ_SECONDS ?? 60);
const SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 1_000_000_000);
const ATTACKERS = 16;
/** What the heap may be larger afterwards than after the warming up, in bytes: caches that fill, and no more. */
const HEAP_GROWTH = 12 * 1024 * 1024;
const WARM_UP = 0.15;

const SETTINGS = {
  TRUST_PROXY: '1',
  MAX_CONNECTIONS: '60',
  MAX_CONNECTIONS_PER_ACTOR: '5',
  MAX_OTHER_CONNECTIONS: '100',
  AUTH_FAILURES_PER_MINUTE: '20',
  CONNECT_RATE_PER_MINUTE: '600',
  SESSION_RATE_PER_MINUTE: '60',
  SNAPSHOT_RATE_PER_MINUTE: '60',
  HEADERS_SECONDS: '1',
  REQUEST_SECONDS: '2',
  KEEP_ALIVE_SECONDS: '2',
  STALL_SECONDS: '1',
  REPLAY_WINDOW_EVENTS: '200',
};

describe(`${ATTACKERS} attackers for ${SECONDS} s, seed ${SEED}`, function () {
  this.timeout((SECONDS + 60) * 1000);
  let stage: Stage;
  let service: Service;
  let shiftMs = 0;
  let watched: Person;
  let loot: Loot;

  before(async () => {
    stage = await Stage.open(SETTINGS, { clock: () => performance.now() + shiftMs });
    service = stage.service;
    const admin = await makePerson(stage.pool, 1, 'ADMIN');
    watched = await makePerson(stage.pool, 2);
    const victims = await Promise.all(Array.from({ length: 20 }, (_, n) => makePerson(stage.pool, 10 + n)));
    const first = victims[0] ?? watched;
    const stream = await makeStream(stage.pool, first, watched);
    const escrow = await makeEscrow(stage.pool, first);
    loot = {
      tokens: [
        admin.token,
        ...victims.map(({ token }) => token),
        mintToken({ sub: first.wallet }),
        mintToken({ sub: first.id, exp: 1 }),
        mintToken({ sub: first.id, type: 'refresh' }),
      ],
      topics: [
        `stream:${stream}`,
        `escrow:${escrow}`,
        `user:${first.id}`,
        `wallet:${first.wallet}`,
        `user:${watched.id}`,
        'stream:00000000-0000-4000-8000-000000000000',
        'user:1',
      ],
      cursor: () => service.hub.cursor,
    };
    await stage.settled();
  });
  after(() => stage.close());

  const collect = runCollector();
  const heap = (): number => {
    collect();
    return process.memoryUsage().heapUsed;
  };

  async function attack(seconds: number, seed: number, tally: Tally): Promise<void> {
    const stop = new AbortController();
    const timer = setTimeout(() => stop.abort(), seconds * 1000);
    await Promise.all(
      Array.from({ length: ATTACKERS }, (_, n) =>
        new Attacker(service.url, seed + n, loot, tally).run(stop.signal),
      ),
    );
    clearTimeout(timer);
  }

  /** Everything that the attackers held has been let go. */
  async function quiet(subscribers: number): Promise<void> {
    await waitFor(() => service.hub.subscribers.size === subscribers, {
      what: `${subscribers} subscribers, there are ${service.hub.subscribers.size}`,
      timeoutMs: 15_000,
    });
    await waitFor(async () => (await metric(service, 'settlewire_sockets')) === subscribers, {
      what: `${subscribers} connections`,
      timeoutMs: 15_000,
    });
  }

  it('get no 5xx and not a line into a stream, hold nothing afterwards, and a watcher misses nothing', async () => {
    const tally: Tally = { statuses: new Map(), connections: 0, failures: [] };
    await attack(SECONDS * WARM_UP, SEED, tally);
    await quiet(0);
    const heapBefore = heap();

    const from = await stage.settled();
    const topic = loot.topics[0];
    const watchers: SseClient[] = [
      await stage.connect('/v1/events', watched.token),
      await stage.connect(`/v1/events?topic=${topic}`, watched.token),
    ];
    for (const watcher of watchers) await watcher.caughtUp();
    const stop = new AbortController();
    const writing = write(stop.signal, topic);
    await attack(SECONDS * (1 - WARM_UP), SEED + ATTACKERS, tally);
    stop.abort();
    const written = await writing;
    expect(tally.failures.slice(0, 3), `${tally.failures.length} failures`).to.deep.equal([]);

    const ids = await outboxIds(stage.pool, [topic], from);
    expect(ids).to.have.length(written);
    for (const watcher of watchers) {
      await watcher.received(written, 20_000);
      expect(watcher.ids).to.deep.equal(ids);
      expect(watcher.ended, 'a watcher was disconnected').to.equal(false);
    }
    await quiet(watchers.length);
    for (const watcher of watchers.splice(0)) watcher.close();
    stage.closeClients();
    await quiet(0);

    expect(service.hub.topicCount).to.equal(0);
    expect(await metric(service, 'settlewire_refusals_total{reason="unavailable"}')).to.equal(0);
    expect(await metric(service, 'settlewire_snapshots_running')).to.equal(0);
    expect(await metric(service, 'settlewire_snapshots_waiting')).to.equal(0);
    expect(await metric(service, 'settlewire_rate_limit_entries{limit="auth_failures"}')).to.be.above(0);
    shiftMs = 61_000;
    for (const limit of ['auth_failures', 'connects', 'sessions', 'snapshots'])
      expect(await metric(service, `settlewire_rate_limit_entries{limit="${limit}"}`), limit).to.equal(0);
    const grown = heap() - heapBefore;
    const statuses = [...tally.statuses].sort(([a], [b]) => a - b).map(([status, n]) => `${n} × ${status}`);
    console.log(
      `      ${tally.connections} connections, ${statuses.join(', ')}; ${written} events; heap ${(grown / 2 ** 20).toFixed(1)} MiB more`,
    );
    expect(grown).to.be.below(HEAP_GROWTH);
    expect([...tally.statuses.keys()], 'the fuzz reaches what it is to reach').to.include.members([
      ...[200, 400, 401, 403, 404, 405],
    ]);
    expect((await fetch(`${service.url}/readyz`)).status).to.equal(200);
  });

  /** Commits an event now and then until told to stop; returns how many. */
  async function write(signal: AbortSignal, topic: string): Promise<number> {
    let written = 0;
    while (!signal.aborted) {
      await stage.commit(topic, 5, 100);
      written += 5;
      // A pace, not a wait: so many events a second, for the subscriber that must miss none.
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return written;
  }
});

/** Node's own garbage collector, which is not to be had without its flag. */
function runCollector(): () => void {
  setFlagsFromString('--expose-gc');
  const collect: unknown = runInNewContext('gc');
  if (typeof collect !== 'function') throw new Error('no garbage collector');
  return () => {
    for (let i = 0; i < 3; i += 1) collect();
  };
}
