import { expect } from 'chai';
import type { Browser, Page } from 'playwright-core';
import { MESSAGE_TYPES } from '../clients/followers.ts';
import { CuttingProxy } from '../support/cutting-proxy.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type Answer, ScriptedServer } from '../support/scripted-server.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, outboxIds, type Person } from '../support/world.ts';
import { launchBrowser, openPage } from './browser.ts';

/** What the page's script keeps; read from here. */
interface Kept {
  readonly types: string[];
  readonly ids: number[];
  readonly state: number;
}

/** Runs in the page: an EventSource, and what its application got, kept on the window. */
const FOLLOW = `([url, types, control]) => {
  const kept = { types: [], ids: [], state: 0 };
  window.kept = kept;
  const source = new EventSource(url);
  for (const type of types)
    source.addEventListener(type, ({ lastEventId }) => {
      kept.types.push(type);
      if (!control.includes(type)) kept.ids.push(Number(lastEventId));
    });
  window.source = source;
}`;
const CONTROL = ['session', 'caught-up', 'cursor', 'reset', 'disconnect'];

describe("a browser's own EventSource", function () {
  this.timeout(60_000);
  let browser: Browser;
  let database: TestDatabase;
  let service: ServiceProcess;
  let payer: Person;
  let stream: string;
  const pages: Page[] = [];

  before(async () => {
    browser = await launchBrowser();
    database = await createTestDatabase();
    payer = await makePerson(database.pool, 1);
    stream = await makeStream(database.pool, payer, await makePerson(database.pool, 2));
    await database.pool.query("select setval('outbox_id_seq', 1000)");
    service = await ServiceProcess.start(database.url);
  });

  afterEach(async () => {
    await Promise.all(pages.splice(0).map((page) => page.context().close()));
  });

  after(async () => {
    await browser?.close();
    await service?.kill();
    await database?.drop();
  });

  async function open(url: string): Promise<Page> {
    const { page } = await openPage(browser);
    pages.push(page);
    await page.goto(url);
    return page;
  }

  function follow(page: Page, path: string, types: readonly string[]): Promise<unknown> {
    return page.evaluate(`(${FOLLOW})(${JSON.stringify([path, types, CONTROL])})`);
  }

  function kept(page: Page): Promise<Kept> {
    return page.evaluate('({ ...window.kept, state: window.source.readyState })');
  }

  /** A page of the service's own origin with a session, following the stream. */
  async function followService(origin: string): Promise<Page> {
    const page = await open(`${origin}/healthz`);
    const status = await page.evaluate(
      async (token) =>
        (await fetch('/v1/session', { method: 'POST', headers: { Authorization: `Bearer ${token}` } }))
          .status,
      payer.token,
    );
    expect(status).to.equal(200);
    await follow(page, `/v1/events?topic=stream:${stream}`, MESSAGE_TYPES);
    await waitFor(async () => (await kept(page)).types.includes('caught-up'), { what: 'caught-up' });
    return page;
  }

  async function commit(count: number): Promise<void> {
    for (let step = 0; step < count; step += 1)
      await database.pool.query('update streams set total_amount = 2500 - total_amount where id = $1', [
        stream,
      ]);
  }

  const head = async (): Promise<number> => (await outboxIds(database.pool)).at(-1) ?? 0;

  async function expectExact(page: Page, start: number): Promise<void> {
    const expected = await outboxIds(database.pool, [`stream:${stream}`], start);
    await waitFor(async () => (await kept(page)).ids.includes(expected.at(-1) ?? 0), {
      what: `event ${expected.at(-1)}`,
      timeoutMs: 15_000,
    });
    expect((await kept(page)).ids).to.deep.equal(expected);
  }

  it('killed in the middle of a stream: nothing is lost or repeated', async () => {
    const start = await head();
    const page = await followService(service.url);
    const writing = commit(150);
    await waitFor(async () => (await kept(page)).ids.length >= 20, { what: 'the middle' });
    await service.kill();
    await writing;
    await service.start();
    await commit(5);
    await expectExact(page, start);
  });

  it('drained by a deploy: it is told, comes back by itself, and nothing is lost or repeated', async () => {
    const start = await head();
    const page = await followService(service.url);
    const writing = commit(150);
    expect(await service.terminate()).to.deep.equal({ code: 0, signal: null });
    await service.start();
    await writing;
    await commit(5);
    await expectExact(page, start);
    expect((await kept(page)).types).to.include('disconnect');
  });

  it('cut inside a block: nothing is lost or repeated', async () => {
    const start = await head();
    const proxy = await CuttingProxy.start(service.url);
    const page = await followService(proxy.url);
    await commit(1);
    const { rows } = await database.pool.query<{ length: number }>(
      `select octet_length(format(E'event: %s\\ndata: %s\\nid: %s\\n\\n', type, data, id)) as length from outbox order by id desc limit 1`,
    );
    const length = rows[0]?.length ?? 0;
    for (const offset of [0, 8, 30, length - 12, length - 6, length - 4, length - 2, length - 1, length]) {
      const caughtUp = async (): Promise<number> =>
        (await kept(page)).types.filter((type) => type === 'caught-up').length;
      const before = await caughtUp();
      proxy.cutAt(offset);
      await commit(1);
      await waitFor(async () => (await caughtUp()) > before, { what: `a cut at ${offset} and a return` });
    }
    await commit(1);
    await expectExact(page, start);
    await page.context().close();
    await proxy.stop();
  });

  describe('what it makes of a server', () => {
    let server: ScriptedServer;

    afterEach(() => server.stop());

    async function meet(answers: readonly Answer[]): Promise<Page> {
      server = await ScriptedServer.start(answers);
      const page = await open(server.origin);
      await follow(page, '/stream', ['message', 'tick']);
      return page;
    }

    const QUICK: Answer = { body: 'retry: 20\n\n', ending: 'cut' };
    const STAY: Answer = { body: ': here\n', ending: 'stay' };
    const PROBLEM = { 'Content-Type': 'application/problem+json', 'Retry-After': '1' };
    const answers: Record<string, readonly [Answer, 'gives up' | 'comes back']> = {
      503: [{ status: 503, headers: PROBLEM }, 'gives up'],
      429: [{ status: 429, headers: PROBLEM }, 'gives up'],
      401: [{ status: 401, headers: PROBLEM }, 'gives up'],
      204: [{ status: 204, headers: {} }, 'gives up'],
      'a 200 that is no stream': [{ headers: { 'Content-Type': 'text/html' }, body: '<p>' }, 'gives up'],
      'the proper end of a stream': [{ body: 'event: tick\ndata: 1\n\n' }, 'comes back'],
      'a stream that is cut off': [QUICK, 'comes back'],
    };
    for (const [what, [answer, verdict]] of Object.entries(answers)) {
      it(`after ${what} it ${verdict}`, async () => {
        const page = await meet([QUICK, answer, STAY]);
        const found = await waitFor(
          async () => {
            if ((await kept(page)).state === 2) return 'gives up';
            return server.asked.length > 2 ? 'comes back' : undefined;
          },
          { what: 'a decision' },
        );
        expect(found).to.equal(verdict);
      });
    }

    /** When a connection breaks, the browser throws away what has come and was not yet handed on: it is cut when the page has the first message. */
    async function cutAfterMessage(page: Page): Promise<void> {
      await waitFor(async () => (await kept(page)).types.includes('message'), { what: 'the first message' });
      server.cut();
    }

    async function resumeAfter(body: string): Promise<[sent: string | undefined, types: string[]]> {
      const page = await meet([{ body: `retry: 20\n${body}`, ending: 'stay' }, STAY]);
      await cutAfterMessage(page);
      const { lastEventId } = await server.request(2);
      return [lastEventId, (await kept(page)).types];
    }

    it('takes the id with the block', async () => {
      expect(await resumeAfter('id: 1\ndata: one\n\nid: 2\ndata: tw')).to.deep.equal(['1', ['message']]);
    });

    it('takes the id of a block without data, and hands nothing on', async () => {
      expect(await resumeAfter('id: 1\ndata: one\n\nid: 2\n\n')).to.deep.equal(['2', ['message']]);
    });

    it('gives a message without an id the last one', async () => {
      const page = await meet([{ body: 'data: 1\nid: 1\n\ndata: 2\n\n', ending: 'stay' }]);
      await waitFor(async () => (await kept(page)).ids.length === 2, { what: 'both messages' });
      expect((await kept(page)).ids).to.deep.equal([1, 1]);
    });

    it('waits as long as retry says', async () => {
      const page = await meet([{ body: 'retry: 400\ndata: 1\n\n', ending: 'stay' }, STAY]);
      await cutAfterMessage(page);
      const cutAt = performance.now();
      const { at } = await server.request(2);
      expect(at - cutAt).to.be.within(390, 2500);
    });
  });
});
