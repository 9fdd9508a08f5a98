import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { needPrograms } from '../support/programs.ts';
import { startService } from '../support/service.ts';
import { SseClient } from '../support/sse-client.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';
import {
  curlFollow,
  type Follower,
  followWithEventsource,
  followWithFetchEventSource,
  followWithLaunchDarkly,
  lendBrowserGlobals,
} from './followers.ts';

describe('clients of a quiet stream', () => {
  let database: TestDatabase;
  let service: Service;
  let payer: Person;
  let stream: string;
  let takeBrowserGlobals: () => void;

  before(async () => {
    takeBrowserGlobals = lendBrowserGlobals();
    database = await createTestDatabase();
    payer = await makePerson(database.pool, 1);
    stream = await makeStream(database.pool, payer, await makePerson(database.pool, 2));
    service = await startService(database.url, { HEARTBEAT_SECONDS: '0.1' });
  });

  after(async () => {
    takeBrowserGlobals?.();
    await service?.stop();
    await database?.drop();
  });

  it('no application is handed a heartbeat', async function () {
    needPrograms(this, 'bash', 'curl');
    const url = `${service.url}/v1/events?topic=stream:${stream}`;
    const followers: Record<string, Follower> = {
      eventsource: followWithEventsource(url, payer.token),
      'launchdarkly-eventsource': followWithLaunchDarkly(url, payer.token),
      'fetch-event-source': followWithFetchEventSource(url, payer.token),
      curl: (await curlFollow())(url, payer.token),
    };
    const all = Object.values(followers);
    await waitFor(() => all.every(({ types }) => types.includes('caught-up')), {
      what: 'everyone to catch up',
    });
    // The last to connect: when it has had heartbeats, so have the others.
    const witness = await SseClient.open(url, payer.token);
    await waitFor(() => witness.comments.length >= 3, { what: 'heartbeats' });
    await database.pool.query("update streams set status = 'paused' where id = $1", [stream]);
    const last = (await outboxIds(database.pool)).at(-1);
    await waitFor(() => all.every(({ ids }) => ids.includes(last ?? 0)), { what: 'the event after them' });
    for (const [name, { types }] of Object.entries(followers))
      expect(types, name).to.deep.equal(['session', 'caught-up', 'stream:updated']);
    witness.close();
    await Promise.all(all.map((follower) => follower.close()));
  });
});
