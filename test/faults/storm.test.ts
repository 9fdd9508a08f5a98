import { expect } from 'chai';
import type { Pool } from 'pg';
import { createPool } from '../../src/database.ts';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { Follower } from '../support/followers.ts';
import { metric } from '../support/metrics.ts';
import { NaiveReader } from '../support/naive-reader.ts';
import { startService } from '../support/service.ts';
import { at, makeStormWorld, pause, type StormWorld, storm } from '../support/storm.ts';
import { waitFor } from '../support/wait-for.ts';
import { outboxIds } from '../support/world.ts';

const SECONDS = Number(process.env.STORM_SECONDS ?? 20);
const WRITERS = 24;

interface Expected {
  readonly follower: Follower;
  /** The topics whose events are to come; undefined: all. */
  readonly topics: readonly string[] | undefined;
}

describe('the storm', () => {
  let database: TestDatabase;
  let pool: Pool;
  let service: Service;
  let world: StormWorld;

  before(async () => {
    database = await createTestDatabase();
    // One connection a writer, and a few for those who look on.
    pool = createPool(database.url, { max: WRITERS + 6, applicationName: 'storm' });
    world = await makeStormWorld(pool);
    // Small windows, so that some resume from memory and some from the database; small batches, so that seams are many.
    service = await startService(database.url, {
      REPLAY_WINDOW_EVENTS: '300',
      REPLAY_PAGE_EVENTS: '50',
      RELAY_BATCH_EVENTS: '40',
      WAKE_RINGS_PER_SECOND: '60',
      HEARTBEAT_SECONDS: '0.1',
      MAX_CONNECTIONS_PER_ACTOR: '100',
    });
  });

  after(async () => {
    await service.stop();
    await pool.end();
    await database.drop();
  });

  /** Feeds, named topics, single topics, and administrators of everything. */
  function makeFollowers(): Expected[] {
    const { people, admin, streams, escrows } = world;
    const query = (topics: readonly string[]) => topics.map((topic) => `topic=${topic}`).join('&');
    const followers: Expected[] = [];
    const add = (path: string, token: string, topics?: readonly string[]) =>
      followers.push({ follower: new Follower(path, token), topics });
    for (let n = 0; n < 4; n += 1) {
      const person = at(people, n);
      // The person pays one stream, receives the one before, and created an escrow.
      add('/v1/events', person.token, [
        `user:${person.id}`,
        `wallet:${person.wallet}`,
        `stream:${at(streams, n)}`,
        `stream:${at(streams, n + streams.length - 1)}`,
        `escrow:${at(escrows, n)}`,
      ]);
      const named = [`stream:${at(streams, n)}`, `user:${person.id}`];
      add(`/v1/events?${query(named)}`, person.token, named);
      add(`/v1/streams/${at(streams, n)}/events`, at(people, n + 1).token, [`stream:${at(streams, n)}`]);
    }
    add('/v1/events', admin.token);
    add('/v1/events', admin.token);
    const everything = [...streams.map((id) => `stream:${id}`), ...escrows.map((id) => `escrow:${id}`)];
    add(`/v1/events?${query(everything)}`, admin.token, everything);
    add(`/v1/escrows/${at(escrows, 0)}/events`, at(people, 0).token, [`escrow:${at(escrows, 0)}`]);
    return followers;
  }

  /** Stays for a while, drops, stays away for a while, resumes. */
  async function live(follower: Follower, over: () => boolean): Promise<void> {
    while (!over()) {
      await pause(Math.random() * 600);
      follower.drop();
      await pause(Math.random() ** 3 * 800);
      await follower.connect(service);
    }
  }

  it(`${WRITERS} writers for ${SECONDS} s: every subscriber gets exactly its events, in order, over all its connections`, async function () {
    this.timeout((SECONDS + 60) * 1000);
    this.slow((SECONDS + 10) * 1000);
    const followers = makeFollowers();
    await Promise.all(followers.map(({ follower }) => follower.connect(service)));
    const start = (await outboxIds(pool)).at(-1) ?? 0;
    const naive = new NaiveReader(pool, start);
    const naiveIds: number[] = [];
    const end = performance.now() + SECONDS * 1000;
    const over = () => performance.now() >= end;
    const readNaively = async () => {
      while (!over()) {
        naiveIds.push(...(await naive.read()));
        await pause(5);
      }
      naiveIds.push(...(await naive.read()));
    };
    const [counts] = await Promise.all([
      storm(pool, world, WRITERS, over),
      readNaively(),
      ...followers.map(({ follower }) => live(follower, over)),
    ]);

    const all = await outboxIds(pool, undefined, start);
    const resumes = followers.reduce((sum, { follower }) => sum + follower.resumes, 0);
    const pages = await metric(service, 'settlewire_replay_pages');
    const missed = all.length - naiveIds.length;
    console.log(
      `      ${all.length} events, ${counts.commits} commits, ${counts.rollbacks} rollbacks, ${followers.length} subscribers, ` +
        `${resumes} resumes, ${pages} pages replayed from the database; a reader with id > cursor missed ${missed}`,
    );
    for (const { follower, topics } of followers) {
      const expected = await outboxIds(pool, topics, follower.start);
      await waitFor(() => follower.ids.length >= expected.length, {
        what: 'the last events',
        timeoutMs: 10_000,
      }).catch(() => {});
      const { ids } = follower;
      const got = new Set(ids);
      expect(
        expected.filter((id) => !got.has(id)),
        'missing',
      ).to.deep.equal([]);
      expect(ids.length - got.size, 'given twice').to.equal(0);
      expect(ids, 'in order').to.deep.equal(expected);
      expect(expected.length).to.be.above(0);
      follower.drop();
    }
    // It was a storm indeed.
    expect(counts.rollbacks).to.be.above(0);
    expect(counts.inFlight).to.be.above(0);
    expect(resumes).to.be.above(followers.length);
    expect(pages).to.be.above(0);
    expect(await metric(service, 'settlewire_relay_reconnects')).to.equal(0);
  });
});
