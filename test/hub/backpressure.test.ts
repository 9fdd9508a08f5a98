import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { metric } from '../support/metrics.ts';
import { Responses } from '../support/responses.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';

const BUFFER = 65_536;
/** More than the kernel takes for a loopback socket that nobody reads. */
const FLOOD = { events: 1000, bytes: 15_000 };

describe('a client that does not read', () => {
  let stage: Stage;
  let hasty: Service;
  let payer: Person;
  let topic: string;
  let path: string;
  let people = 0;
  let responses: Responses;
  const warnings: Error[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning);

  before(async () => {
    process.on('warning', onWarning);
    responses = new Responses();
    const environment = {
      SUBSCRIBER_BUFFER_BYTES: String(BUFFER),
      // One person comes and goes faster here than a busy service takes note of who has gone.
      MAX_CONNECTIONS_PER_ACTOR: '1000',
      REPLAY_WINDOW_EVENTS: '500',
      REPLAY_PAGE_EVENTS: '8',
    };
    stage = await Stage.open(environment);
    hasty = await stage.addService({ ...environment, STALL_SECONDS: '0.5', HEARTBEAT_SECONDS: '0.8' });
  });

  after(async () => {
    await stage.close();
    responses.stop();
    process.off('warning', onWarning);
    expect(warnings.map(String)).to.deep.equal([]);
  });

  beforeEach(async () => {
    people += 1;
    payer = await makePerson(stage.pool, people);
    const stream = await makeStream(stage.pool, payer, payer);
    topic = `stream:${stream}`;
    path = `/v1/streams/${stream}/events`;
    await Promise.all([stage.settled(), stage.settled(hasty)]);
  });

  afterEach(() => stage.closeClients());

  const replaying = (service: Service): number =>
    [...service.hub.subscribers].filter(({ state }) => state === 'replaying').length;

  /** Bytes held for the slowest. */
  const held = (service: Service): number =>
    Math.max(0, ...[...service.hub.subscribers].map(({ buffered }) => buffered));

  it('costs a bounded buffer, disturbs nobody, and gets everything once it reads again', async function () {
    this.timeout(30_000);
    const from = stage.cursor;
    const slow = await (await stage.connect(path, payer.token)).caughtUp();
    const quick = await (await stage.connect(path, payer.token)).caughtUp();
    slow.pause();
    let [most, waiting] = [0, 0];
    const watch = setInterval(() => {
      most = Math.max(most, held(stage.service));
      waiting = Math.max(waiting, responses.waiting);
    }, 1);
    for (let i = 0; i < 5; i += 1) await stage.publish(topic, FLOOD.events / 5, FLOOD.bytes);
    await quick.received(FLOOD.events, 15_000);
    expect(replaying(stage.service), 'the slow one has stopped taking live events').to.equal(1);
    expect(slow.events.length).to.be.lessThan(FLOOD.events);
    slow.resume();
    await slow.received(FLOOD.events, 15_000);
    clearInterval(watch);
    const ids = await outboxIds(stage.pool, [topic], from);
    expect(slow.ids).to.deep.equal(ids);
    expect(quick.ids).to.deep.equal(ids);
    expect(most).to.be.within(BUFFER / 4, BUFFER);
    expect(waiting, 'at a socket').to.be.within(1, most);
    expect(slow.messages.filter(({ type }) => type === 'caught-up')).to.have.length(1);
    await waitFor(() => replaying(stage.service) === 0, { what: 'both live' });
    await stage.publish(topic);
    await slow.received(FLOOD.events + 1);
  });

  it('forty of them cost a bounded buffer each, however much is published, and who reads gets all of it', async function () {
    this.timeout(60_000);
    const from = stage.cursor;
    const admin = await makePerson(stage.pool, 1000 + people, 'ADMIN');
    const others = await Promise.all(
      Array.from({ length: 40 }, (_, n) => makePerson(stage.pool, 2000 + people * 100 + n, 'ADMIN')),
    );
    const stuck = await Promise.all(others.map(({ token }) => stage.connect(path, token)));
    for (const client of stuck) (await client.caughtUp()).pause();
    const quick = await (await stage.connect(path, admin.token)).caughtUp();
    let [most, waiting] = [0, 0];
    const watch = setInterval(() => {
      most = Math.max(most, held(stage.service));
      waiting = Math.max(waiting, responses.waiting);
    }, 1);
    let published = 0;
    const flood = async (events: number): Promise<void> => {
      await stage.publish(topic, events, FLOOD.bytes);
      published += events;
      await quick.received(published, 30_000);
    };
    // How much the kernel takes for somebody who reads nothing is not the same for all of them.
    while (replaying(stage.service) < stuck.length && published < 2000) await flood(100);
    expect(replaying(stage.service), 'stuck').to.equal(stuck.length);
    await flood(200);
    clearInterval(watch);
    expect(most, 'for any one of them').to.be.within(BUFFER / 4, BUFFER);
    expect(waiting, 'at a socket').to.be.within(1, most);
    expect(replaying(stage.service)).to.equal(stuck.length);
    expect(stage.service.hub.window.events, 'the window').to.be.at.most(500);
    expect(quick.ids).to.deep.equal(await outboxIds(stage.pool, [topic], from));
    for (const client of stuck) expect(client.ended).to.equal(false);
  });

  it('is cut off after the stall time; nobody else is, and it comes back to the rest', async function () {
    this.timeout(30_000);
    const before = await metric(hasty, 'settlewire_disconnects_total{reason="slow_consumer"}');
    const from = stage.cursor;
    const stuck = await (await stage.connect(path, payer.token, {}, hasty)).caughtUp();
    const quick = await (await stage.connect(path, payer.token, {}, hasty)).caughtUp();
    stuck.pause();
    await stage.publish(topic, FLOOD.events, FLOOD.bytes);
    await waitFor(() => hasty.hub.subscribers.size === 1, { what: 'the stuck one to be cut off' });
    expect(await metric(hasty, 'settlewire_disconnects_total{reason="slow_consumer"}')).to.equal(before + 1);
    await quick.received(FLOOD.events, 15_000);
    expect(quick.ended).to.equal(false);
    stuck.resume();
    await stuck.untilEnded();
    const back = await stage.connect(path, payer.token, { 'Last-Event-ID': stuck.lastEventId ?? '' }, hasty);
    await back.received(FLOOD.events - stuck.events.length, 15_000);
    expect([...stuck.ids, ...back.ids]).to.deep.equal(await outboxIds(stage.pool, [topic], from));
  });

  it('has nothing to read and is not cut off', async () => {
    const quiet = await (await stage.connect(path, payer.token, {}, hasty)).caughtUp();
    const before = quiet.comments.length;
    // Between two heartbeats lies more than the stall time.
    await waitFor(() => quiet.comments.length >= before + 2, { what: 'heartbeats' });
    expect(quiet.ended).to.equal(false);
  });

  it('or that comes and goes a thousand times leaves nothing behind', async function () {
    this.timeout(60_000);
    const recent = { 'Last-Event-ID': String(Math.max(1, stage.cursor - 5)) };
    for (let round = 0; round < 20; round += 1) {
      await Promise.all(
        Array.from({ length: 50 }, async (_, i) => {
          const feed = i % 2 === 0 ? '/v1/events' : path;
          const client = await stage.connect(feed, payer.token, i % 3 === 0 ? recent : {});
          if (i % 5 !== 0) await client.caughtUp();
          client.close();
        }),
      );
      stage.closeClients();
    }
    const { hub } = stage.service;
    await waitFor(() => hub.subscribers.size === 0, { what: 'an empty hub' });
    expect(hub.topicCount).to.equal(0);
    expect(await metric(stage.service, 'settlewire_subscribers')).to.equal(0);
    expect(await metric(stage.service, 'settlewire_connects_total')).to.be.at.least(1000);
  });
});
