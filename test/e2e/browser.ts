import { existsSync } from 'node:fs';
import { type Browser, type BrowserContext, type ConsoleMessage, chromium, type Page } from 'playwright-core';

const USUAL_PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Chromium from CHROMIUM_PATH, or from where it usually is; else the Chrome that Playwright can find. */
export function launchBrowser(): Promise<Browser> {
  const path = process.env.CHROMIUM_PATH ?? USUAL_PLACES.find((it) => existsSync(it));
  return chromium.launch({ args: FLAGS, ...(path ? { executablePath: path } : { channel: 'chrome' }) });
}

/** What the browser says of a connection that broke or was refused: expected while a service is down, and only then. */
const NETWORK = /net::ERR_(CONNECTION_|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE)/;

/** A topic that was granted and revoked again before the page could ask for it: it asks, is refused, and goes on. */
function isGoneTopic(message: ConsoleMessage): boolean {
  return message.text().includes('403') && message.location().url.includes('/v1/snapshot?topic=');
}

/** The page asked for a snapshot of a service that listens already and has not caught up yet: it asks again. */
function isStartingService(message: ConsoleMessage): boolean {
  return message.text().includes('503') && message.location().url.includes('/v1/snapshot');
}

export interface WatchedPage {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Console errors, uncaught exceptions and violations of the content security policy; broken connections left out. */
  readonly complaints: string[];
}

/** A page in a browser context (cookies) of its own. */
export async function openPage(browser: Browser): Promise<WatchedPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on('console', (message: ConsoleMessage) => {
    const expected = NETWORK.test(message.text()) || isGoneTopic(message) || isStartingService(message);
    if (['error', 'warning'].includes(message.type()) && !expected) complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(String(error)));
  return { page, context, complaints };
}
