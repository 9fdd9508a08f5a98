import { spawn } from 'node:child_process';
import { expect } from 'chai';
import type { Browser, Page } from 'playwright-core';
import { startMarket } from '../../src/demo/market.ts';
import { type DemoUser, seedDemo } from '../../src/demo/seed.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { mintToken } from '../support/tokens.ts';
import { waitFor } from '../support/wait-for.ts';
import { launchBrowser, openPage, type WatchedPage } from './browser.ts';

const OTHER_WALLET = '0x5e771e0000000000000000000000000000000002';

describe('the dashboard in a browser', () => {
  let browser: Browser;
  let database: TestDatabase;
  let you: DemoUser;
  let service: ServiceProcess;
  let watched: WatchedPage;
  let page: Page;

  const create = (environment: Record<string, string> = {}) =>
    ServiceProcess.create({
      DATABASE_URL: database.url,
      RETRY_MS: '100',
      HEARTBEAT_SECONDS: '0.5',
      ...environment,
    });
  const link = () => `${service.url}/#token=${mintToken({ sub: you.userId })}`;

  before(async () => {
    browser = await launchBrowser();
  });
  after(() => browser.close());

  beforeEach(async () => {
    database = await createTestDatabase();
    you = await seedDemo(database.pool);
    service = await create();
    watched = await openPage(browser);
    page = watched.page;
  });
  afterEach(async () => {
    await watched.context.close();
    await service.kill();
    await database.drop();
  });

  it('opens by the printed link, keeps its token out of sight, and shows changes as they are committed', async () => {
    service = await create({ DEMO: 'true' });
    await service.start();
    const printed = await waitFor(() => /http:\S+#token=\S+/.exec(service.stdout)?.[0], { what: 'the link' });
    await page.goto(printed);
    await becomes(page, 'live');
    expect(page.url()).to.equal(`${service.url}/`);

    const { rows } = await database.pool.query<{ id: string }>(
      `insert into streams (payer, recipient, status, rate_per_second, total_amount)
       values ($1, $2, 'active', 0.123456789, 77) returning id`,
      [you.walletAddress, OTHER_WALLET],
    );
    const id = rows[0]?.id ?? '';
    const row = page.locator('#streams tr', { hasText: id.slice(0, 8) });
    await row.getByText('0.123456789/s').waitFor();
    await database.pool.query(`update streams set status = 'cancelled' where id = $1`, [id]);
    await row.getByText('cancelled').waitFor();
    await database.pool.query('delete from settlements where stream_id = $1', [id]);
    await database.pool.query('delete from streams where id = $1', [id]);
    await row.waitFor({ state: 'detached' });

    await database.pool.query(`insert into notifications (user_id, event_type) values ($1, 'made.by.test')`, [
      you.userId,
    ]);
    await page.locator('.note.unread', { hasText: 'made by test' }).waitFor();
    await database.pool.query(`update notifications set read_at = now() where event_type = 'made.by.test'`);
    await page.locator('.note:not(.unread)', { hasText: 'made by test' }).waitFor();

    await page.reload();
    await becomes(page, 'live');
    expect(watched.complaints).to.deep.equal([]);
  });

  it('carries on over a crash of the service, while others write, and neither misses nor repeats an event', async () => {
    await service.start();
    const from = startCursor(page);
    await page.goto(link());
    await becomes(page, 'live');
    const market = startMarket({ pool: database.pool, intervalMs: 15, log: { info() {}, warn() {} } });
    try {
      for (let crash = 0; crash < 2; crash += 1) {
        await receives(page, 40);
        await service.kill();
        await becomes(page, 'reconnecting');
        const written = await newestId(database);
        await waitFor(async () => (await newestId(database)) > written + 30, { what: 'events in the dark' });
        await service.start();
        await becomes(page, 'live');
      }
      await receives(page, 40);
    } finally {
      await market.stop();
    }
    const last = await newestId(database);
    await waitFor(async () => (await page.evaluate<number>('settlewire.cursor')) >= last, {
      what: 'the page to catch up',
      timeoutMs: 10_000,
    });

    const received = await page.evaluate<number[]>('settlewire.received');
    expect(received).to.deep.equal(await visibleTo(database, you, await from));
    expect(received.length).to.be.above(120);
    expect(await page.evaluate('settlewire.duplicates')).to.equal(0);
    await waitFor(async () => isSame(await shown(page), await stored(database, you)), {
      what: 'the page to show what the database holds',
    });
    expect(watched.complaints).to.deep.equal([]);
  });

  it('says why it is waiting while the service is deployed anew', async () => {
    await service.start();
    await page.goto(link());
    await becomes(page, 'live');
    await service.terminate();
    await page.locator('#connection', { hasText: 'the service is being restarted' }).waitFor();
    await service.start();
    await becomes(page, 'live');
    expect(watched.complaints).to.deep.equal([]);
  });

  it('takes the snapshot again after a reset, and goes on from there', async () => {
    await service.start();
    await page.goto(link());
    await becomes(page, 'live');
    await service.kill();
    await becomes(page, 'reconnecting');
    // What happens now is in no history that the page could be given.
    await database.pool.query(
      `update streams set status = 'withdrawn' where $1 in (payer, recipient) and status = 'active'`,
      [you.walletAddress],
    );
    await database.pool.query('select outbox_new_epoch()');
    const again = page.waitForResponse((it) => it.url().endsWith('/v1/snapshot') && it.ok());
    await service.start();
    await again;
    await becomes(page, 'live');
    await page.locator('#connection', { hasText: 'state taken again' }).waitFor();
    await waitFor(async () => isSame(await shown(page), await stored(database, you)), {
      what: 'the new state',
    });

    const before = await page.evaluate<number>('settlewire.received.length');
    await database.pool.query('insert into notifications (user_id, event_type) values ($1, $2)', [
      you.userId,
      'made.by.test',
    ]);
    await page.locator('.note.unread', { hasText: 'made by test' }).waitFor();
    expect(await page.evaluate('settlewire.received.length')).to.equal(before + 1);
    expect(await page.evaluate('settlewire.duplicates')).to.equal(0);
    expect(watched.complaints).to.deep.equal([]);
  });

  it('tells whoever comes without a session what to do', async () => {
    await service.start();
    await page.goto(service.url);
    await page.getByRole('heading', { name: 'No session' }).waitFor();
    expect(await page.locator('#board').isVisible()).to.equal(false);
  });

  it('says that the session has ended when the account is closed', async () => {
    await service.start();
    await page.goto(link());
    await becomes(page, 'live');
    await database.pool.query('update users set is_active = false where id = $1', [you.userId]);
    await page.locator('#connection', { hasText: 'Session ended' }).waitFor({ timeout: 15_000 });
  });

  it('cut off on purpose, shows what it misses and how it comes back', async () => {
    await service.start();
    await page.goto(link());
    await becomes(page, 'live');
    const button = page.locator('#line-button');
    await button.focus();
    await page.keyboard.press('Enter');
    await becomes(page, 'reconnecting');
    const cursor = await page.evaluate<number>('settlewire.cursor');
    for (let count = 0; count < 3; count += 1) await notify('made.by.test');
    await page.locator('#step-missed', { hasText: '3 events: 3 notification new' }).waitFor();
    expect(await page.evaluate('settlewire.cursor')).to.equal(cursor);
    expect(await page.locator('#line-squares i:not(.back)').count()).to.equal(3);
    expect(await page.locator('.note', { hasText: 'made by test' }).count()).to.equal(0);

    await page.getByRole('button', { name: 'Mend the line' }).click();
    await page
      .getByRole('status')
      .filter({ hasText: 'All 3 missed events came back, in order, none twice.' })
      .waitFor();
    await page.locator('#step-back', { hasText: `with Last-Event-ID ${cursor}` }).waitFor();
    await page.locator('#step-replayed', { hasText: '3 of 3' }).waitFor();
    expect(await page.locator('#line-squares i.back').count()).to.equal(3);
    await page.locator('.note', { hasText: 'made by test' }).nth(2).waitFor();
    expect(await page.evaluate<number[]>('settlewire.received')).to.deep.equal(
      await idsAfter(database, cursor),
    );

    await page.getByRole('button', { name: 'Cut it again' }).click();
    await becomes(page, 'reconnecting');
    await page.getByRole('button', { name: 'Mend the line' }).click();
    await page.getByRole('status').filter({ hasText: 'Nothing happened while the line was cut.' }).waitFor();
    expect(watched.complaints).to.deep.equal([]);
  });

  it('tells that the state was taken again when the history ended while it was cut off', async () => {
    await service.start();
    await page.goto(link());
    await becomes(page, 'live');
    await page.locator('#line-button').click();
    await becomes(page, 'reconnecting');
    await database.pool.query('select outbox_new_epoch()');
    await notify('made.by.test');
    await page.getByRole('button', { name: 'Mend the line' }).click();
    await page.locator('#line-verdict', { hasText: 'The state was taken again instead' }).waitFor();
    await page.locator('.note', { hasText: 'made by test' }).waitFor();
  });

  it('shows how long events take from the row to the page', async () => {
    await service.start();
    await page.goto(link());
    await becomes(page, 'live');
    await notify('made.by.test');
    await page.locator('#latency', { hasText: /^\d+ ms$/ }).waitFor();
  });

  it('shows events in an inspector that the keyboard opens and closes', async () => {
    await service.start();
    await page.goto(link());
    await becomes(page, 'live');
    const toggle = page.getByRole('button', { name: 'Inspect events' });
    await toggle.focus();
    await page.keyboard.press('Enter');
    await notify('made.by.test');
    await page.locator('#raw li', { hasText: 'notification:new' }).waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#drawer').waitFor({ state: 'hidden' });
    expect(await toggle.evaluate((it) => it === it.ownerDocument.activeElement)).to.equal(true);
  });

  it('filters events, pauses them, and copies one as a curl line that gets it again', async () => {
    await service.start();
    await watched.context.grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.goto(link());
    await becomes(page, 'live');
    await page.getByRole('button', { name: 'Inspect events' }).click();
    await notify('first.one');
    await notify('second.one');
    await page.locator('#raw li').nth(1).waitFor();
    const filter = page.getByRole('searchbox', { name: 'Filter events' });
    await filter.fill('NEW second');
    expect(await page.locator('#raw li:visible').allTextContents()).to.have.length(1);
    expect(await page.locator('#raw-count').textContent()).to.equal('1 of the last 2');
    await filter.fill('nothing like it');
    await page.getByText('None of these match.').waitFor();
    await filter.fill('');

    await page.getByRole('button', { name: 'Pause' }).click();
    await notify('third.one');
    await page.getByRole('button', { name: 'Resume (1)' }).click();
    await page.locator('#raw li').nth(2).waitFor();

    const id = await page.locator('#raw li .raw-id').first().textContent();
    await page.getByRole('button', { name: `Copy event ${id} as curl` }).click();
    await page
      .getByRole('status')
      .filter({ hasText: `Copied: event ${id} as curl` })
      .waitFor({ state: 'attached' });
    const line = await page.evaluate<string>('navigator.clipboard.readText()');
    expect(await firstEvent(line, mintToken({ sub: you.userId }))).to.equal(`id: ${id}`);
    expect(watched.complaints).to.deep.equal([]);
  });

  async function notify(type: string): Promise<void> {
    await database.pool.query('insert into notifications (user_id, event_type) values ($1, $2)', [
      you.userId,
      type,
    ]);
  }
});

async function becomes(page: Page, state: string): Promise<void> {
  await waitFor(async () => (await page.evaluate('window.settlewire?.state')) === state, {
    what: `the page to be ${state}`,
    timeoutMs: 15_000,
  });
}

async function receives(page: Page, more: number): Promise<void> {
  const count = () => page.evaluate<number>('settlewire.received.length');
  const enough = (await count()) + more;
  await waitFor(async () => (await count()) >= enough, { what: `${more} more events`, timeoutMs: 15_000 });
}

/** The cursor with which the page opens its first event stream. */
async function startCursor(page: Page): Promise<number> {
  const request = await page.waitForRequest((it) => it.url().includes('/v1/events'));
  return Number(await request.headerValue('Last-Event-ID'));
}

async function newestId({ pool }: TestDatabase): Promise<number> {
  const { rows } = await pool.query<{ id: string }>('select coalesce(max(id), 0) as id from outbox');
  return Number(rows[0]?.id);
}

/** By SQL alone: the ids after a cursor of what one actor may see, each judged by the access events up to it. */
async function visibleTo({ pool }: TestDatabase, actor: DemoUser, after: number): Promise<number[]> {
  const { rows } = await pool.query<{ id: string }>(
    `select e.id from outbox e
      where e.id > $1 and (e.topic = any($2) or (
        select a.type from outbox a
         where a.topic = any($2) and a.type like 'access:%' and a.data ->> 'topic' = e.topic and a.id < e.id
         order by a.id desc limit 1) = 'access:granted')
      order by e.id`,
    [after, [`user:${actor.userId}`, `wallet:${actor.walletAddress}`]],
  );
  return rows.map((it) => Number(it.id));
}

async function idsAfter({ pool }: TestDatabase, after: number): Promise<number[]> {
  const { rows } = await pool.query<{ id: number }>('select id from outbox where id > $1 order by id', [
    after,
  ]);
  return rows.map(({ id }) => Number(id));
}

/** Runs a line in a shell, as somebody who pasted it, until the first event has come; its `id:` line. */
async function firstEvent(line: string, token: string): Promise<string> {
  const shell = spawn('bash', ['-c', `${line} | grep -m 1 '^id: '`], {
    env: { PATH: process.env.PATH ?? '', TOKEN: token },
    stdio: ['ignore', 'pipe', 'ignore'],
    detached: true,
  });
  let output = '';
  shell.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  try {
    return await waitFor(() => /^id: \d+/.exec(output)?.[0], { what: 'the event' });
  } finally {
    if (shell.pid !== undefined) process.kill(-shell.pid, 'SIGKILL');
  }
}

type Statuses = Record<string, string>;

/** What the page holds, whether or not it has room to show it. */
async function shown(page: Page): Promise<Statuses> {
  return page.evaluate<Statuses>(`Object.fromEntries([
    ...[...settlewire.data.streams.values()].map((it) => [it.streamId, it.status + ' ' + it.ratePerSecond]),
    ...[...settlewire.data.escrows.values()].map((it) => [it.escrowId, it.status + ' ' + it.releasedAmount]),
  ].sort())`);
}

async function stored({ pool }: TestDatabase, actor: DemoUser): Promise<Statuses> {
  const { rows } = await pool.query<{ id: string; status: string }>(
    `select id, status || ' ' || rate_per_second as status from streams where $1 in (payer, recipient)
     union all
     select id, status || ' ' || released_amount from escrows e
      where creator_id = $2
         or exists (select from escrow_parties where escrow_id = e.id and user_id = $2 and status <> 'rejected')`,
    [actor.walletAddress, actor.userId],
  );
  return Object.fromEntries(rows.map((it) => [it.id, it.status] as const).sort());
}

function isSame(one: Statuses, other: Statuses): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
