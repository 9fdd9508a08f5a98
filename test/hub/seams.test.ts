import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { BlackHole } from '../support/black-hole.ts';
import { Blockade } from '../support/blockade.ts';
import { Stage } from '../support/stage.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';

describe('from connecting to live', () => {
  let stage: Stage;
  let services: Record<'window' | 'small window' | 'database', Service>;
  let payer: Person;
  let topic: string;
  let path: string;
  let people = 0;

  before(async () => {
    stage = await Stage.open();
    services = {
      window: stage.service,
      'small window': await stage.addService({ REPLAY_WINDOW_EVENTS: '3', REPLAY_PAGE_EVENTS: '2' }),
      database: await stage.addService({ REPLAY_WINDOW_EVENTS: '0', REPLAY_PAGE_EVENTS: '3' }),
    };
  });

  after(() => stage.close());

  beforeEach(async () => {
    people += 1;
    payer = await makePerson(stage.pool, people);
    const stream = await makeStream(stage.pool, payer, payer);
    topic = `stream:${stream}`;
    path = `/v1/streams/${stream}/events`;
    await everywhere();
  });

  afterEach(() => stage.closeClients());

  async function everywhere(): Promise<void> {
    for (const service of Object.values(services)) await stage.settled(service);
  }

  for (const from of ['window', 'small window', 'database'] as const) {
    it(`an event committed at each step comes once and in order: replay from the ${from}`, async () => {
      const service = services[from];
      const cursor = stage.cursor;
      // Before it connects, with other people's events in between.
      await stage.publish(topic, 4, 10_000);
      await stage.publish('user:somebody', 2);
      await everywhere();
      // After its cursor is fixed, before its access is known.
      const blockade = await Blockade.of(stage.pool, 'users');
      const connecting = stage.connect(path, payer.token, { 'Last-Event-ID': String(cursor) }, service);
      await blockade.waiting('with known');
      await stage.publish(topic, 3);
      await everywhere();
      await blockade.lift();
      const client = await connecting;
      // While it replays, or just then: the socket is not read, then it is.
      client.pause();
      await stage.publish(topic, 5, 10_000);
      await everywhere();
      client.resume();
      await stage.publish(topic, 2);
      await client.caughtUp();
      await stage.publish(topic, 1);
      await client.received(15);
      expect(client.ids).to.deep.equal(await outboxIds(stage.pool, [topic], cursor));
    });

    it(`one who starts at the head while access is looked up misses nothing: ${from}`, async () => {
      const service = services[from];
      const head = stage.cursor;
      const blockade = await Blockade.of(stage.pool, 'users');
      const connecting = stage.connect(path, payer.token, {}, service);
      await blockade.waiting('with known');
      await stage.publish(topic, 3);
      await everywhere();
      await blockade.lift();
      const client = await (await connecting).caughtUp();
      expect(client.response?.headers['last-event-id']).to.equal(String(head));
      expect(client.ids).to.deep.equal(await outboxIds(stage.pool, [topic], head));
    });
  }

  for (const pageEvents of [1, 2, 3, 7]) {
    it(`events are committed while a replay goes on, ${pageEvents} a page`, async () => {
      const service = await stage.addService({
        REPLAY_WINDOW_EVENTS: pageEvents === 7 ? '20' : '0',
        REPLAY_PAGE_EVENTS: String(pageEvents),
      });
      const cursor = stage.cursor;
      await stage.publish(topic, 40);
      await stage.settled(service);
      const client = await stage.connect(path, payer.token, { 'Last-Event-ID': String(cursor) }, service);
      for (let i = 0; i < 15; i += 1) await stage.commit(i % 3 === 0 ? 'user:somebody' : topic);
      await client.caughtUp();
      await stage.publish(topic);
      await client.received(51);
      expect(client.ids).to.deep.equal(await outboxIds(stage.pool, [topic], cursor));
    });
  }

  it('a cursor on, between and beside the events of the topic gets exactly what is later', async () => {
    const cursor = stage.cursor;
    for (let i = 0; i < 4; i += 1) {
      await stage.publish(topic, 2);
      await stage.publish('user:somebody');
    }
    await everywhere();
    const ids = await outboxIds(stage.pool, [topic], cursor);
    for (let at = cursor; at <= stage.cursor; at += 1) {
      for (const service of Object.values(services)) {
        const client = await stage.connect(path, payer.token, { 'Last-Event-ID': String(at) }, service);
        await client.caughtUp();
        expect(client.ids, `from ${at}`).to.deep.equal(ids.filter((id) => id > at));
        client.close();
      }
    }
  });

  it('a client that is ahead of its new instance waits there and misses nothing', async () => {
    const hole = await BlackHole.before(stage.database.url);
    const behind = await stage.addService({ LISTEN_DATABASE_URL: hole.url });
    const ahead = await (await stage.connect(path, payer.token)).caughtUp();
    const from = stage.cursor;
    hole.swallow({ application: /settlewire/, direction: 'both', late: true });
    await stage.publish(topic, 3);
    await ahead.received(3);
    expect(behind.hub.cursor).to.be.lessThan(stage.cursor);
    const headers = { 'Last-Event-ID': ahead.lastEventId ?? '' };
    const hopped = await (await stage.connect(path, payer.token, headers, behind)).caughtUp();
    expect(hopped.lastEventId).to.equal(ahead.lastEventId);
    await stage.publish(topic, 2);
    hole.heal();
    await stage.settled(behind);
    await hopped.received(2);
    expect(hopped.messages.map(({ type }) => type)).not.to.include('reset');
    expect([...ahead.ids.slice(0, 3), ...hopped.ids]).to.deep.equal(
      await outboxIds(stage.pool, [topic], from),
    );
    await behind.stop();
    await hole.stop();
  });
});
