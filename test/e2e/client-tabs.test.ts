import { expect } from 'chai';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { bundleClient } from '../../scripts/client-bundle.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ScriptedServer } from '../support/scripted-server.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';
import { launchBrowser } from './browser.ts';

/** Runs in a page: the client, and what its application got, kept on the window. */
const FOLLOW = `async ([topics, cursor]) => {
  const { connect } = await import('/assets/client.js');
  const kept = { ids: [], states: [], resets: 0 };
  const connection = connect({
    url: location.origin, credentials: 'cookie', topics, share: 'me', longestPauseMs: 300,
    ...(cursor === null ? {} : { cursor }),
  });
  connection.on('event', ({ id }) => kept.ids.push(id));
  connection.on('status', ({ state }) => kept.states.push(state));
  connection.on('reset', () => { kept.resets += 1; });
  Object.assign(window, { kept, connection });
}`;

describe('the client in tabs of a browser', function () {
  this.timeout(60_000);
  let browser: Browser;
  let database: TestDatabase;
  let service: ServiceProcess;
  let context: BrowserContext;
  let payer: Person;
  let topic: string;

  before(async () => {
    browser = await launchBrowser();
    database = await createTestDatabase();
    payer = await makePerson(database.pool, 1);
    topic = `stream:${await makeStream(database.pool, payer, await makePerson(database.pool, 2))}`;
    service = await ServiceProcess.start(database.url);
  });
  beforeEach(async () => {
    context = await browser.newContext();
    const answer = await context.request.post(`${service.url}/v1/session`, {
      headers: { Authorization: `Bearer ${payer.token}` },
    });
    expect(answer.status()).to.equal(200);
  });
  afterEach(() => context.close());
  after(async () => {
    await browser?.close();
    await service?.kill();
    await database?.drop();
  });

  async function openTab(cursor: number | null = null): Promise<Page> {
    const page = await context.newPage();
    await page.goto(`${service.url}/healthz`);
    await page.evaluate(`(${FOLLOW})(${JSON.stringify([[topic], cursor])})`);
    await waitFor(async () => (await page.evaluate('connection.status.state')) === 'live', {
      what: 'a live tab',
      timeoutMs: 15_000,
    });
    return page;
  }

  const head = async (): Promise<number> => (await outboxIds(database.pool)).at(-1) ?? 0;
  const idsOf = (page: Page): Promise<number[]> => page.evaluate<number[]>('kept.ids');

  async function commit(count: number): Promise<void> {
    for (let step = 0; step < count; step += 1)
      await database.pool.query(`select outbox_publish($1, 'test:happened', '{}')`, [topic]);
  }

  async function expectExact(pages: readonly Page[], after: number): Promise<void> {
    const expected = await outboxIds(database.pool, [topic], after);
    for (const page of pages) {
      await waitFor(async () => (await idsOf(page)).includes(expected.at(-1) ?? 0), {
        what: 'the last event',
        timeoutMs: 15_000,
      });
      expect(await idsOf(page)).to.deep.equal(expected);
    }
  }

  /** Streams that the service has open, by its own metrics. */
  async function streams(): Promise<number> {
    const metrics = await (
      await fetch(`http://127.0.0.1:${service.environment['ADMIN_PORT']}/metrics`)
    ).text();
    return Number(/^settlewire_subscribers (\d+)/m.exec(metrics)?.[1]);
  }

  it('eight tabs share one connection, where six would be the most that a browser opens', async () => {
    const start = await head();
    const pages: Page[] = [];
    for (let tab = 0; tab < 8; tab += 1) pages.push(await openTab());
    await commit(20);
    await expectExact(pages, start);
    expect(await streams()).to.equal(1);
  });

  it('when the leading tab is closed or crashes, and when the service is killed, nothing is lost or repeated', async () => {
    const start = await head();
    const pages = [await openTab(), await openTab(), await openTab()];
    const [first, second, third] = pages;
    if (!first || !second || !third) throw new Error('three tabs');
    let writing = true;
    const written = (async () => {
      while (writing) await commit(1);
    })();
    const more = async (): Promise<void> => {
      const enough = (await idsOf(third)).length + 20;
      await waitFor(async () => (await idsOf(third)).length >= enough, { what: 'more', timeoutMs: 15_000 });
    };
    await more();
    await first.close();
    await more();
    await service.kill();
    await service.start();
    await more();
    // A crash of its process: nothing of the page runs any more.
    void second.goto('chrome://crash').catch(() => {});
    await more();
    writing = false;
    await written;
    await commit(1);
    await expectExact([third], start);
    expect(await third.evaluate('kept.resets')).to.equal(0);
  });

  it('a tab with an old cursor gets what it lacks over the connection of the others', async () => {
    const start = await head();
    const first = await openTab();
    await commit(10);
    await expectExact([first], start);
    const late = await openTab(start);
    await commit(2);
    await expectExact([first, late], start);
    expect(await streams()).to.equal(1);
  });

  describe('on a page of another origin', () => {
    let elsewhere: ScriptedServer;
    let strict: ServiceProcess;

    before(async () => {
      elsewhere = await ScriptedServer.start([]);
      strict = await ServiceProcess.start(database.url, { CORS_ORIGINS: elsewhere.origin });
    });
    after(async () => {
      await strict?.kill();
      await elsewhere?.stop();
    });

    for (const how of ['bearer', 'ticket']) {
      it(`with a ${how}: killed and started again, nothing is lost or repeated`, async () => {
        const start = await head();
        const page = await context.newPage();
        await page.goto(elsewhere.origin);
        await page.evaluate(
          `(async ([code, url, token, topic, how]) => {
            const { connect, takeSnapshot } = await import('data:text/javascript,' + encodeURIComponent(code));
            const ticket = async () => (await (await fetch(url + '/v1/tickets', {
              method: 'POST', headers: { Authorization: 'Bearer ' + token },
            })).json()).ticket;
            const credentials = how === 'bearer' ? { bearer: () => token } : { ticket };
            const { cursor } = await takeSnapshot({ url, credentials: { bearer: () => token } });
            const kept = { ids: [] };
            const connection = connect({ url, credentials, topics: [topic], cursor, longestPauseMs: 300 });
            connection.on('event', ({ id }) => kept.ids.push(id));
            Object.assign(window, { kept, connection });
          })(${JSON.stringify([await bundleClient(), strict.url, payer.token, topic, how])})`,
        );
        await waitFor(async () => (await page.evaluate('connection.status.state')) === 'live', {
          what: 'live',
        });
        await commit(5);
        await strict.kill();
        await commit(5);
        await strict.start();
        await commit(5);
        await expectExact([page], start);
      });
    }
  });
});
