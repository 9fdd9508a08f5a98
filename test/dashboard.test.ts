import { readdir, readFile } from 'node:fs/promises';
import { expect } from 'chai';
import express from 'express';
import request from 'supertest';
import { dashboardRoutes } from '../src/dashboard/dashboard.ts';

const PAGE = new URL('../src/dashboard/page/', import.meta.url);

describe('dashboard routes', () => {
  const app = express().use(dashboardRoutes());

  it('serve the page at the root, to be checked on every visit', async () => {
    const response = await request(app).get('/').expect(200);
    expect(response.headers['content-type']).to.equal('text/html; charset=utf-8');
    expect(response.headers['cache-control']).to.equal('no-cache');
    expect(response.text).to.contain('<title>settlewire</title>');
  });

  for (const [path, type] of [
    ['/assets/app.js', 'text/javascript; charset=utf-8'],
    ['/assets/style.css', 'text/css; charset=utf-8'],
    ['/assets/icon.svg', 'image/svg+xml'],
    ['/assets/uPlot.esm.js', 'text/javascript; charset=utf-8'],
    ['/assets/uPlot.min.css', 'text/css; charset=utf-8'],
  ] as const) {
    it(`serve ${path} as ${type}`, async () => {
      const response = await request(app).get(path).expect(200);
      expect(response.headers['content-type']).to.equal(type);
      expect(response.headers['cache-control']).to.equal('no-cache');
    });
  }

  it('answer an unchanged file with 304', async () => {
    const first = await request(app).get('/assets/app.js');
    await request(app)
      .get('/assets/app.js')
      .set('If-Modified-Since', String(first.headers['last-modified']))
      .expect(304);
  });

  it('serve every file that the page and its modules ask for', async () => {
    const names = (await readdir(PAGE)).filter((it) => /\.(html|js)$/.test(it));
    const texts = await Promise.all(names.map((it) => readFile(new URL(it, PAGE), 'utf8')));
    const wanted = texts.flatMap((text) => [
      ...[...text.matchAll(/from '\.\/([^']+)'/g)].map((it) => it[1]),
      ...[...text.matchAll(/(?:src|href)="assets\/([^"]+)"/g)].map((it) => it[1]),
    ]);
    expect(wanted).to.include.members(['app.js', 'style.css', 'uPlot.esm.js', 'sync.js']);
    for (const name of new Set(wanted)) await request(app).get(`/assets/${name}`).expect(200);
  });

  it('pass a range that a file does not have to the error handler', async () => {
    const quiet = express().set('env', 'test').use(dashboardRoutes());
    for (const path of ['/', '/assets/uPlot.esm.js'])
      await request(quiet).get(path).set('Range', 'bytes=99999999-').expect(416);
  });

  it('leave what they do not have to the routes after them', async () => {
    await request(app).get('/assets/nothing.js').expect(404);
    await request(app).get('/assets/../dashboard.ts').expect(404);
    await request(app).get('/assets/%2e%2e/dashboard.ts').expect(404);
    await request(app).get('/assets/').expect(404);
  });

  it('serve a page that a strict content security policy lets run: nothing inline', async () => {
    const { text } = await request(app).get('/');
    expect(text).to.not.match(/<script(?![^>]*\ssrc=)/);
    expect(text).to.not.match(/<style|\sstyle=|\son[a-z]+=|https?:\/\//);
  });

  it('serve modules that never read data as markup', async () => {
    for (const name of (await readdir(PAGE)).filter((it) => it.endsWith('.js')))
      expect(await readFile(new URL(name, PAGE), 'utf8'), name).to.not.match(
        /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/,
      );
  });
});

// What the page's modules without DOM promise, in the types that they use. The browser's own tests are in test/e2e/.
interface WireEvent {
  readonly id: number;
  readonly type: string;
  readonly data: Record<string, unknown>;
}
interface Snapshot {
  readonly cursor: number;
  readonly topics: Record<string, unknown>;
}
interface Sync {
  readonly state: Record<'streams' | 'escrows' | 'notifications', Map<string, Record<string, unknown>>>;
  restart(): Promise<number | null>;
  event(event: WireEvent): void;
}
interface SyncModule {
  createSync(need: {
    snapshot(topic?: string): Promise<Snapshot>;
    changed(): void;
    refused(): void;
    wait(): Promise<void>;
  }): Sync;
}
interface MoneyModule {
  amount(text: string | null, decimals?: number): string;
  accrued(stream: Record<string, unknown>, now: number): bigint | null;
}

describe('dashboard state', () => {
  const escrow = {
    escrowId: 'e',
    status: 'pending',
    releasedAmount: '0',
    amount: '9',
    parties: [],
    milestones: [],
  };
  const topics = { 'user:u': { notifications: [], escrows: [escrow] }, 'wallet:w': { streams: [] } };
  const status = (id: number, value: string, updatedAt: string): WireEvent => ({
    id,
    type: 'escrow:status_changed',
    data: { escrowId: 'e', status: value, previousStatus: null, txHash: null, updatedAt },
  });

  /** A sync whose snapshots are answered by hand, in the order in which they were asked for. */
  async function createSync(): Promise<{
    sync: Sync;
    asked: string[];
    answer(reply: Snapshot | Error): Promise<void>;
  }> {
    const { createSync } = (await import(new URL('sync.js', PAGE).href)) as SyncModule;
    const asked: string[] = [];
    const waiting: ((reply: Snapshot | Error) => void)[] = [];
    const sync = createSync({
      changed: () => {},
      refused: () => {},
      wait: () => Promise.resolve(),
      snapshot: (topic = 'all') =>
        new Promise((resolve, reject) => {
          asked.push(topic);
          waiting.push((reply) => (reply instanceof Error ? reject(reply) : resolve(reply)));
        }),
    });
    const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
    return {
      sync,
      asked,
      async answer(reply) {
        waiting.shift()?.(reply);
        await settled();
      },
    };
  }

  it('holds events back while a snapshot is on its way, and applies those above its cursor', async () => {
    const { sync, answer } = await createSync();
    const restarted = sync.restart();
    sync.event(status(6, 'disputed', '2026-01-01T00:00:06Z'));
    sync.event(status(8, 'active', '2026-01-01T00:00:08Z'));
    await answer({ cursor: 7, topics });
    expect(await restarted).to.equal(7);
    expect(sync.state.escrows.get('e')).to.include({ status: 'active', releasedAmount: '0' });
  });

  it('does not go back to a state older than the one that a snapshot already had', async () => {
    const { sync, answer } = await createSync();
    sync.restart();
    await answer({
      cursor: 1,
      topics: { 'escrow:e': { ...escrow, status: 'completed', updatedAt: '2026-01-01T00:00:09.500Z' } },
    });
    sync.event(status(2, 'active', '2026-01-01T00:00:08Z'));
    expect(sync.state.escrows.get('e')).to.include({ status: 'completed' });
  });

  it('fetches what is granted, holding its events, and drops what is revoked meanwhile', async () => {
    const { sync, asked, answer } = await createSync();
    sync.restart();
    await answer({ cursor: 1, topics: {} });
    for (const [id, topic] of [
      [2, 'escrow:e'],
      [3, 'escrow:f'],
    ] as const)
      sync.event({ id, type: 'access:granted', data: { topic } });
    sync.event(status(4, 'active', '2026-01-01T00:00:04Z'));
    sync.event({ id: 5, type: 'access:revoked', data: { topic: 'escrow:f' } });
    await answer({ cursor: 2, topics: { 'escrow:e': escrow } });
    await answer({ cursor: 3, topics: { 'escrow:f': { ...escrow, escrowId: 'f' } } });
    expect(asked).to.deep.equal(['all', 'escrow:e']);
    expect([...sync.state.escrows.keys()]).to.deep.equal(['e']);
    expect(sync.state.escrows.get('e')).to.include({ status: 'active' });
  });

  it('asks again after a failure, and lets go of a topic that it is refused', async () => {
    const { sync, asked, answer } = await createSync();
    sync.restart();
    await answer(new Error('away'));
    await answer({ cursor: 1, topics });
    sync.event({ id: 2, type: 'access:granted', data: { topic: 'escrow:x' } });
    await answer(Object.assign(new Error('forbidden'), { status: 403, final: true }));
    sync.event({ id: 3, type: 'access:granted', data: { topic: 'escrow:y' } });
    expect(asked).to.deep.equal(['all', 'all', 'escrow:x', 'escrow:y']);
  });

  it('takes an escrow again when its dispute is resolved, for the event does not say what was released', async () => {
    const { sync, asked, answer } = await createSync();
    sync.restart();
    await answer({ cursor: 1, topics });
    sync.event({
      id: 2,
      type: 'escrow:dispute_resolved',
      data: { escrowId: 'e', outcome: 'released_to_seller' },
    });
    expect(sync.state.escrows.get('e')?.['dispute']).to.include({ status: 'resolved' });
    await answer({ cursor: 2, topics: { 'escrow:e': { ...escrow, releasedAmount: '9' } } });
    expect(asked).to.deep.equal(['all', 'escrow:e']);
    expect(sync.state.escrows.get('e')).to.include({ releasedAmount: '9' });
  });

  it('takes everything again after an event that was cut down to its size', async () => {
    const { sync, asked, answer } = await createSync();
    sync.restart();
    await answer({ cursor: 1, topics });
    sync.event({ id: 2, type: 'notification:new', data: { oversize: true, bytes: 20_000 } });
    expect(asked).to.deep.equal(['all', 'all']);
  });
});

describe('dashboard money', () => {
  const stream = {
    status: 'active',
    ratePerSecond: '12345678901.000000001',
    totalAmount: null,
    lastSettledAt: '2026-01-01T00:00:00Z',
    endTime: null,
    updatedAt: '2026-01-01T00:00:00Z',
  };
  const at = (seconds: number) => Date.parse('2026-01-01T00:00:00Z') + seconds * 1000;
  let money: MoneyModule;

  before(async () => {
    money = (await import(new URL('money.js', PAGE).href)) as MoneyModule;
  });

  it('counts exactly where a double could not', () => {
    expect(money.accrued(stream, at(10))).to.equal(123_456_789_010_000_000_010n);
  });

  it('accrues up to the end and the total, never backwards, and only while active', () => {
    expect(
      money.accrued({ ...stream, ratePerSecond: '1', endTime: '2026-01-01T00:00:05Z' }, at(60)),
    ).to.equal(5_000_000_000n);
    expect(money.accrued({ ...stream, ratePerSecond: '1', totalAmount: '3.5' }, at(60))).to.equal(
      3_500_000_000n,
    );
    expect(money.accrued(stream, at(-60))).to.equal(0n);
    expect(money.accrued({ ...stream, status: 'paused' }, at(60))).to.equal(null);
  });

  it('shows amounts truncated, grouped, and with at least two decimals', () => {
    expect(money.amount('1234567.000000000')).to.equal('1,234,567.00');
    expect(money.amount('0.001929012')).to.equal('0.001929012');
    expect(money.amount('0.999999999', 2)).to.equal('0.99');
    expect(money.amount(null)).to.equal('–');
  });
});
