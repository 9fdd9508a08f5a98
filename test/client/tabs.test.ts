import { expect } from 'chai';
import type { Options } from '../../src/client/client.ts';
import { LiveClient } from '../support/live-client.ts';
import { LockQueue } from '../support/lock-queue.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';

describe('tabs that share a connection', () => {
  let stage: Stage;
  let payer: Person;
  let topic: string;
  let locks: LockQueue;
  const tabs: LiveClient[] = [];

  before(async () => {
    stage = await Stage.open({ RETRY_MS: '10' });
    payer = await makePerson(stage.pool, 1);
    topic = `stream:${await makeStream(stage.pool, payer, await makePerson(stage.pool, 2))}`;
    await stage.settled();
  });
  beforeEach(() => {
    locks = new LockQueue();
  });
  afterEach(async () => {
    for (const tab of tabs.splice(0)) tab.close();
    await waitFor(() => open() === 0 && locks.held === 0, { what: 'everybody to have gone' });
  });
  after(() => stage.close());

  const open = (): number => [...stage.service.hub.subscribers].length;

  function openTab(more: Partial<Options> = {}): LiveClient {
    const tab = new LiveClient({
      url: stage.service.url,
      credentials: { bearer: () => payer.token },
      topics: [topic],
      share: 'me',
      locks,
      ...more,
    });
    tabs.push(tab);
    return tab;
  }

  async function openTabs(count: number): Promise<LiveClient[]> {
    const all = Array.from({ length: count }, () => openTab());
    await Promise.all(all.map((tab) => tab.is('live')));
    return all;
  }

  async function expectAll(these: readonly LiveClient[], after: number): Promise<void> {
    const expected = await outboxIds(stage.pool, [topic], after);
    await Promise.all(these.map((tab) => tab.has(expected.at(-1) ?? 0)));
    for (const tab of these) expect(tab.ids).to.deep.equal(expected);
  }

  it('have one stream, and each gets everything once', async () => {
    const start = stage.cursor;
    const all = await openTabs(4);
    expect(open()).to.equal(1);
    await stage.publish(topic, 20);
    await expectAll(all, start);
    expect(all.map((tab) => tab.connection.session?.cursor)).to.deep.equal(Array(4).fill(start));
    expect(all.map((tab) => tab.connection.duplicates)).to.deep.equal([0, 0, 0, 0]);
  });

  it('when the leader goes, another carries on from the last cursor: nothing is lost or repeated', async () => {
    const start = stage.cursor;
    const all = await openTabs(4);
    let writing = true;
    const written = (async () => {
      while (writing) await stage.commit(topic, 3);
    })();
    for (const [index, leader] of all.slice(0, 3).entries()) {
      const next = all[index + 1];
      const enough = (next?.ids.length ?? 0) + 10;
      await waitFor(() => (next?.ids.length ?? 0) >= enough, { what: 'the middle' });
      leader.close();
    }
    writing = false;
    await written;
    await stage.publish(topic);
    await expectAll(all.slice(3), start);
    expect(open()).to.equal(1);
    const expected = await outboxIds(stage.pool, [topic], start);
    for (const { ids } of all) expect(ids).to.deep.equal(expected.slice(0, ids.length));
  });

  it('a tab that comes late with an old cursor gets what it lacks, and nobody else gets it again', async () => {
    const start = stage.cursor;
    const [first] = await openTabs(1);
    await stage.publish(topic, 30);
    await first?.has(stage.cursor);
    const late = openTab({ cursor: start });
    await stage.publish(topic, 5);
    await expectAll(tabs, start);
    expect(open()).to.equal(1);
    expect(late.connection.duplicates).to.equal(0);
  });

  it('a tab that comes late while others write does not keep the leader busy with the past', async () => {
    const start = stage.cursor;
    const [first] = await openTabs(1);
    await stage.publish(topic, 300);
    await first?.has(stage.cursor);
    let writing = true;
    const written = (async () => {
      while (writing) await stage.commit(topic, 5);
    })();
    const late = openTab({ cursor: start });
    await waitFor(() => late.ids.length > 320, { what: 'the late tab to catch up', timeoutMs: 15_000 });
    writing = false;
    await written;
    await stage.publish(topic);
    await expectAll(tabs, start);
    expect(first?.statuses.filter(({ state }) => state === 'connecting').length).to.equal(2);
  });

  it('a tab without a cursor begins where the others are', async () => {
    const [first] = await openTabs(1);
    const head = await stage.publish(topic, 3);
    await first?.has(head);
    const late = openTab();
    await late.is('live');
    expect(late.connection.cursor).to.equal(head);
    expect(late.connection.session?.topics).to.deep.equal([topic]);
    await stage.publish(topic);
    await expectAll([late], head);
  });

  it('a tab that is ahead drops what it need not have', async () => {
    const [first] = await openTabs(1);
    const ahead = openTab({ cursor: stage.cursor });
    await ahead.is('live');
    const head = await stage.publish(topic, 2);
    await first?.has(head);
    await ahead.has(head);
    expect(ahead.ids).to.deep.equal(first?.ids);
  });

  it('all are told of a reset, and go on together', async () => {
    const [first] = await openTabs(1);
    await stage.publish(topic);
    const lost = openTab({ cursor: 1_000_000 });
    await lost.is('live');
    first?.close();
    const follower = openTab();
    await waitFor(() => lost.resets.length === 1 && follower.connection.status.state === 'live', {
      what: 'a reset',
    });
    const next = await stage.publish(topic);
    await lost.has(next);
    await follower.has(next);
    expect(lost.resets.map(({ reason }) => reason)).to.deep.equal(['ahead']);
  });

  it('a leader whose credential is refused stands aside for one that has a good one', async () => {
    const start = stage.cursor;
    const stranger = openTab({ credentials: { bearer: () => 'not.a.token' } });
    const good = openTab();
    expect((await stranger.is('closed')).reason).to.equal('unauthenticated');
    await good.is('live');
    await stage.publish(topic);
    await expectAll([good], start);
    expect(stranger.ids).to.deep.equal([]);
  });

  it('tabs of other people, other topics or another service do not share', async () => {
    await openTabs(1);
    const others = [openTab({ share: 'you' }), openTab({ topics: [`user:${payer.id}`] })];
    await Promise.all(others.map((tab) => tab.is('live')));
    expect(open()).to.equal(3);
  });

  it('each has its own where there are no locks', async () => {
    const { locks: _, ...options } = { locks, url: stage.service.url, share: 'me', topics: [topic] };
    const credentials = { bearer: () => payer.token };
    const pair = [new LiveClient({ ...options, credentials }), new LiveClient({ ...options, credentials })];
    tabs.push(...pair);
    await Promise.all(pair.map((tab) => tab.is('live')));
    expect(open()).to.equal('locks' in (Reflect.get(globalThis, 'navigator') ?? {}) ? 1 : 2);
  });

  it('a tab that is closed while it waits for its turn leaves the queue', async () => {
    const all = await openTabs(3);
    all[1]?.close();
    all[0]?.close();
    await waitFor(() => open() === 1, { what: 'the third to lead' });
    const head = await stage.publish(topic);
    await all[2]?.has(head);
    expect(all[1]?.ids).to.deep.equal([]);
  });
});
