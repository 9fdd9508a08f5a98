import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { CuttingProxy } from '../support/cutting-proxy.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { needPrograms } from '../support/programs.ts';
import { startService } from '../support/service.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';
import {
  curlFollow,
  type Follow,
  type Follower,
  followWithEventsource,
  followWithFetchEventSource,
  followWithLaunchDarkly,
  followWithPlainFetchEventSource,
  lendBrowserGlobals,
} from './followers.ts';

const timesCaughtUp = ({ types }: Follower): number => types.filter((type) => type === 'caught-up').length;

describe('a stream that is cut inside the block of an event', function () {
  this.timeout(60_000);
  let database: TestDatabase;
  let service: Service;
  let payer: Person;
  let stream: string;
  let takeBrowserGlobals: () => void;
  const proxies: CuttingProxy[] = [];
  const followers: Follower[] = [];

  before(async () => {
    takeBrowserGlobals = lendBrowserGlobals();
    database = await createTestDatabase();
    payer = await makePerson(database.pool, 1);
    stream = await makeStream(database.pool, payer, await makePerson(database.pool, 2));
    // Ids of four digits all the way, so that every block is as long as the others.
    await database.pool.query("select setval('outbox_id_seq', 1000)");
    service = await startService(database.url, { RETRY_MS: '1' });
  });

  afterEach(async () => {
    await Promise.all(followers.splice(0).map((follower) => follower.close()));
    await Promise.all(proxies.splice(0).map((proxy) => proxy.stop()));
  });

  after(async () => {
    takeBrowserGlobals?.();
    await service?.stop();
    await database?.drop();
  });

  /** The last event, as bytes on the wire. */
  async function lastBlock(): Promise<Buffer> {
    const { rows } = await database.pool.query<{ block: string }>(
      `select format(E'event: %s\\ndata: %s\\nid: %s\\n\\n', type, data, id) as block from outbox order by id desc limit 1`,
    );
    return Buffer.from(rows[0]?.block ?? '');
  }

  /** One event, short: every byte of it is a case. */
  async function change(): Promise<number> {
    await database.pool.query(`select outbox_publish($1, 'stream:updated', '{"status":"paused"}')`, [
      `stream:${stream}`,
    ]);
    return (await outboxIds(database.pool)).at(-1) ?? 0;
  }

  /**
   * Each client through a proxy of its own; for every offset one event, whose block is cut there; in the end one that comes whole.
   * @returns by client: the offsets at which the client's application never got the event
   */
  async function cutAt(
    offsets: readonly number[],
    clients: Record<string, Follow>,
  ): Promise<Record<string, number[]>> {
    const start = (await outboxIds(database.pool)).at(-1) ?? 0;
    await waitFor(() => service.hub.cursor >= start, { what: 'the service to be there' });
    const cut = new Map<number, number>();
    const all = await Promise.all(
      Object.entries(clients).map(async ([name, follow]) => {
        const proxy = await CuttingProxy.start(service.url);
        const follower = follow(`${proxy.url}/v1/events?topic=stream:${stream}`, payer.token);
        proxies.push(proxy);
        followers.push(follower);
        await waitFor(() => follower.types.includes('caught-up'), { what: `${name} to catch up` });
        return { name, proxy, follower };
      }),
    );
    for (const [index, offset] of offsets.entries()) {
      for (const { proxy } of all) proxy.cutAt(offset);
      cut.set(await change(), offset);
      await waitFor(() => all.every(({ follower }) => timesCaughtUp(follower) === index + 2), {
        what: `everyone to be cut at ${offset} and to come back`,
      });
    }
    const whole = await change();
    await waitFor(() => all.every(({ follower }) => follower.ids.includes(whole)), {
      what: 'the last event',
    });
    const expected = await outboxIds(database.pool, [`stream:${stream}`], start);
    const lost: Record<string, number[]> = {};
    for (const { name, follower } of all) {
      const missing = expected.filter((id) => !follower.ids.includes(id));
      expect(follower.ids, `${name}: in order, none twice`).to.deep.equal(
        expected.filter((id) => !missing.includes(id)),
      );
      lost[name] = missing.map((id) => cut.get(id) ?? Number.NaN);
    }
    return lost;
  }

  it('at every offset: clients that take the id with the event lose and repeat nothing', async () => {
    await change();
    const { length } = await lastBlock();
    const lost = await cutAt([...Array(length + 1).keys()], {
      eventsource: followWithEventsource,
      'launchdarkly-eventsource': followWithLaunchDarkly,
      'fetch-event-source': followWithFetchEventSource,
      // It takes the id as soon as it reads the line; `id` being the last field leaves one place where that shows.
      'fetch-event-source as its README has it': followWithPlainFetchEventSource,
    });
    expect(lost).to.deep.equal({
      eventsource: [],
      'launchdarkly-eventsource': [],
      'fetch-event-source': [],
      'fetch-event-source as its README has it': [length - 1],
    });
  });

  it('curl loses and repeats nothing', async function () {
    needPrograms(this, 'bash', 'curl');
    await change();
    const block = await lastBlock();
    const { length } = block;
    const offsets = [0, 1, block.indexOf('data:'), block.indexOf('id:'), block.indexOf('id:') + 4];
    const lost = await cutAt([...offsets, length - 3, length - 2, length - 1, length], {
      curl: await curlFollow(),
    });
    expect(lost).to.deep.equal({ curl: [] });
  });
});
