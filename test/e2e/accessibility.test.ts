import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import type { Browser, Page } from 'playwright-core';
import { type DemoUser, seedDemo } from '../../src/demo/seed.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { ServiceProcess } from '../support/service-process.ts';
import { mintToken } from '../support/tokens.ts';
import { launchBrowser, openPage, type WatchedPage } from './browser.ts';

const CONTRAST = new URL('./contrast.page.js', import.meta.url);

describe('the dashboard without a mouse, without eyes, and in poor light', () => {
  let browser: Browser;
  let database: TestDatabase;
  let you: DemoUser;
  let service: ServiceProcess;
  let watched: WatchedPage;
  let page: Page;

  before(async () => {
    browser = await launchBrowser();
    database = await createTestDatabase();
    you = await seedDemo(database.pool);
    service = await ServiceProcess.create({ DATABASE_URL: database.url, RETRY_MS: '100' });
    await service.start();
  });
  after(async () => {
    await browser.close();
    await service.kill();
    await database.drop();
  });
  beforeEach(async () => {
    watched = await openPage(browser);
    page = watched.page;
  });
  afterEach(() => watched.context.close());

  async function open(): Promise<void> {
    await page.goto(`${service.url}/#token=${mintToken({ sub: you.userId })}`);
    await page.locator('#streams tr').first().waitFor();
    await page.getByText('Live', { exact: true }).waitFor();
  }

  async function changeSomething(): Promise<void> {
    await database.pool.query(`insert into notifications (user_id, event_type) values ($1, 'made.by.test')`, [
      you.userId,
    ]);
  }

  async function faintTexts(): Promise<string[]> {
    return page.evaluate<string[]>(await readFile(CONTRAST, 'utf8'));
  }

  async function tabTo(name: string, key = 'Tab'): Promise<void> {
    const wanted = page.getByRole('button', { name, exact: true }).and(page.locator(':focus'));
    for (let presses = 0; presses < 10; presses += 1) {
      if ((await wanted.count()) === 1) return;
      await page.keyboard.press(key);
    }
    expect.fail(`${name} is not within ten presses of ${key}`);
  }

  it('is worked with the keyboard alone: cut the line and mend it; filter and pause the events, and leave', async () => {
    await open();
    await tabTo('Cut the line');
    await page.keyboard.press('Enter');
    await changeSomething();
    await page.getByRole('img', { name: '1 event missed, 0 of them back' }).waitFor();
    await tabTo('Mend the line');
    await page.keyboard.press('Enter');
    await page.getByRole('status').getByText('The one missed event came back.').waitFor();
    expect(await page.locator('#step-back').getAttribute('title')).to.equal('');

    await tabTo('Inspect events', 'Shift+Tab');
    await page.keyboard.press('Enter');
    await page.keyboard.type('notification');
    await tabTo('Pause', 'Shift+Tab');
    await page.keyboard.press('Space');
    await page.getByRole('button', { name: 'Resume', pressed: true }).waitFor();
    await page.keyboard.press('Escape');
    await page.locator('#drawer').waitFor({ state: 'hidden' });
    await tabTo('Inspect events');
    expect(watched.complaints).to.deep.equal([]);
  });

  it('has a name for each table, picture, bar, button and field, and none for what is not there', async () => {
    await open();
    await page.getByRole('button', { name: 'Inspect events' }).click();
    await changeSomething();
    await page.getByRole('button', { name: /^Copy event \d+ as curl$/ }).waitFor();
    const tree = await page.locator('body').ariaSnapshot();
    expect(tree).not.to.match(
      /^\s*- (table|img|progressbar|button|searchbox|region|complementary)( \[|:|$)/m,
    );
    expect(tree).to.match(/table "Streams"/);
    expect(tree).to.match(/Signed in as/);
    expect(tree).not.to.match(/events missed/i);
  });

  for (const colorScheme of ['light', 'dark'] as const)
    it(`can be read in the ${colorScheme}: every text has the contrast of WCAG AA, on a row that flashes, too`, async () => {
      await page.emulateMedia({ colorScheme });
      await open();
      await page.getByRole('button', { name: 'Cut the line' }).click();
      await page.getByRole('button', { name: 'Inspect events' }).click();
      // As in the first moment of a flash, on everything that can flash.
      await page.addStyleTag({
        content:
          '#streams tr, .card, .note, .raw { background-color: var(--flash); animation: none !important }',
      });
      expect(await faintTexts()).to.deep.equal([]);
      await page.locator('#board').evaluate((it) => it.classList.add('stale'));
      await page.addStyleTag({ content: ':root { --flash: transparent }' });
      expect(await faintTexts()).to.deep.equal([]);
    });
});
