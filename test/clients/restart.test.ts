import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { needPrograms } from '../support/programs.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';
import {
  curlFollow,
  type Follower,
  followWithEventsource,
  followWithFetchEventSource,
  followWithLaunchDarkly,
  followWithPlainFetchEventSource,
  lendBrowserGlobals,
} from './followers.ts';

describe('clients of a service that goes and comes back', function () {
  this.timeout(40_000);
  let database: TestDatabase;
  let service: ServiceProcess;
  let payer: Person;
  let stream: string;
  let followers: Record<string, Follower>;
  let start: number;
  let takeBrowserGlobals: () => void;

  before(async function () {
    needPrograms(this, 'bash', 'curl');
    takeBrowserGlobals = lendBrowserGlobals();
    database = await createTestDatabase();
    payer = await makePerson(database.pool, 1);
    stream = await makeStream(database.pool, payer, await makePerson(database.pool, 2));
    service = await ServiceProcess.start(database.url);
    start = (await outboxIds(database.pool)).at(-1) ?? 0;
    const url = `${service.url}/v1/events`;
    followers = {
      eventsource: followWithEventsource(url, payer.token),
      'launchdarkly-eventsource': followWithLaunchDarkly(url, payer.token),
      'fetch-event-source': followWithFetchEventSource(url, payer.token),
      'fetch-event-source as its README has it': followWithPlainFetchEventSource(url, payer.token),
      curl: (await curlFollow())(url, payer.token),
    };
    await everyone('caught up', ({ types }) => types.includes('caught-up'));
  });

  after(async () => {
    await Promise.all(Object.values(followers ?? {}).map((follower) => follower.close()));
    takeBrowserGlobals?.();
    await service?.kill();
    await database?.drop();
  });

  function everyone(what: string, condition: (follower: Follower) => boolean): Promise<unknown> {
    const missing = (): string[] =>
      Object.keys(followers).filter((name) => followers[name] && !condition(followers[name]));
    return waitFor(() => missing().length === 0, { what: `everyone to be ${what}`, timeoutMs: 15_000 }).catch(
      (error: unknown) => {
        throw new Error(`not ${what}: ${missing().join(', ')}`, { cause: error });
      },
    );
  }

  async function commit(count: number): Promise<void> {
    for (let step = 0; step < count; step += 1)
      await database.pool.query(
        'update streams set rate_per_second = rate_per_second + 0.001 where id = $1',
        [stream],
      );
  }

  async function expectExact(): Promise<void> {
    const expected = await outboxIds(database.pool, [`stream:${stream}`], start);
    await everyone('given the last event', ({ ids }) => ids.includes(expected.at(-1) ?? 0));
    for (const [name, { ids }] of Object.entries(followers)) expect(ids, name).to.deep.equal(expected);
  }

  it('killed in the middle of a stream: nothing is lost or repeated', async () => {
    const writing = commit(150);
    await everyone('in the middle', ({ ids }) => ids.length >= 20);
    await service.kill();
    await writing;
    await service.start();
    await commit(10);
    await expectExact();
  });

  it('drained by a deploy: each is told, comes back by itself, and nothing is lost or repeated', async () => {
    await everyone('connected', ({ types }) => types.at(-1) !== 'disconnect');
    const writing = commit(150);
    const [code] = await Promise.all([service.terminate(), commit(20)]);
    expect(code).to.deep.equal({ code: 0, signal: null });
    await service.start();
    await writing;
    await commit(10);
    await expectExact();
    for (const [name, { types }] of Object.entries(followers)) expect(types, name).to.include('disconnect');
  });

  it('killed while nothing happens: the cursor that a quiet client carries is enough', async () => {
    await service.kill();
    await commit(5);
    await service.start();
    await expectExact();
  });
});
