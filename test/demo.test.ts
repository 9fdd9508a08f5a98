import type { AddressInfo } from 'node:net';
import { connect, createServer, type Server } from 'node:net';
import { expect } from 'chai';
import type pg from 'pg';
import { createPool } from '../src/database.ts';
import { startMarket } from '../src/demo/market.ts';
import { seedDemo } from '../src/demo/seed.ts';
import { createTestDatabase, type TestDatabase } from './support/database.ts';
import { seededRandom } from './support/seeded-random.ts';
import { waitFor } from './support/wait-for.ts';

const TABLES = [
  'users',
  'streams',
  'settlements',
  'escrows',
  'escrow_parties',
  'escrow_conditions',
  'disputes',
];
const EVERY_TYPE = [
  'access:granted',
  'access:revoked',
  'escrow:dispute_filed',
  'escrow:dispute_resolved',
  'escrow:milestone_released',
  'escrow:party_joined',
  'escrow:status_changed',
  'notification:new',
  'notification:read',
  'settle:finished',
  'stream:updated',
];

describe('the demo', () => {
  let database: TestDatabase;
  const log = silentLog();

  beforeEach(async () => {
    database = await createTestDatabase();
  });
  afterEach(() => database.drop());

  it('loads you, your streams and escrows, and dealings of others, and loading it again changes nothing', async () => {
    const you = await seedDemo(database.pool);
    const first = await sizes(database.pool);
    expect(await seedDemo(database.pool)).to.deep.equal(you);
    expect(await sizes(database.pool)).to.deep.equal(first);

    const { rows } = await database.pool.query(
      `select (select count(*)::int from streams where $1 in (payer, recipient)) as streams,
              (select count(*)::int from streams where $1 not in (payer, recipient)) as "otherStreams",
              (select count(distinct escrow_id)::int from escrow_parties where user_id = $2) as escrows,
              (select count(*)::int from escrows e where not exists (
                 select from escrow_parties where escrow_id = e.id and user_id = $2)) as "otherEscrows",
              (select count(*)::int from notifications where user_id = $2 and read_at is null) as unread`,
      [you.walletAddress, you.userId],
    );
    expect(rows[0]).to.deep.equal({ streams: 8, otherStreams: 3, escrows: 6, otherEscrows: 2, unread: 3 });
  });

  it('plays a market in which every type of event happens, to you and to others, in tables that stay small', async () => {
    const you = await seedDemo(database.pool);
    const market = startMarket({ pool: database.pool, intervalMs: 0, random: seededRandom(7), log });
    try {
      await waitFor(
        async () => {
          const { rows } = await database.pool.query<{ type: string }>(
            'select distinct type from outbox order by type',
          );
          return EVERY_TYPE.every((type) => rows.some((it) => it.type === type));
        },
        { what: 'every type of event', timeoutMs: 50_000 },
      );
      await waitFor(
        async () => {
          const { rows } = await database.pool.query('select count(*)::int as n from outbox');
          return rows[0].n > 1_500;
        },
        { what: 'fifteen hundred events', timeoutMs: 50_000 },
      );
    } finally {
      await market.stop();
    }
    expect(log.warnings).to.deep.equal([]);

    const after = await sizes(database.pool);
    expect(after.streams).to.be.within(5, 40);
    expect(after.settlements).to.be.below(40 * 10);
    expect(after.escrows).to.be.within(5, 40);
    expect(after.notifications).to.be.below(6 * 80);

    const mine = await database.pool.query(`select count(*)::int as n from outbox where topic in ($1, $2)`, [
      `user:${you.userId}`,
      `wallet:${you.walletAddress}`,
    ]);
    expect(mine.rows[0].n).to.be.above(20);
  });

  it('leaves rows of anybody else alone', async () => {
    const stranger = '0x00000000000000000000000000000000000000aa';
    const { rows } = await database.pool.query<{ id: string }>(
      `insert into streams (payer, recipient, status, rate_per_second, total_amount)
       values ($1, '0x5e771e0000000000000000000000000000000001', 'active', 1, 100) returning id`,
      [stranger],
    );
    await seedDemo(database.pool);
    const market = startMarket({ pool: database.pool, intervalMs: 0, random: seededRandom(3), log });
    await waitFor(
      async () => (await database.pool.query('select count(*)::int as n from outbox')).rows[0].n > 1_000,
      { what: 'five hundred events', timeoutMs: 50_000 },
    );
    await market.stop();
    const events = await database.pool.query('select type from outbox where topic = $1', [
      `stream:${rows[0]?.id}`,
    ]);
    expect(events.rows).to.deep.equal([{ type: 'stream:updated' }]);
  });

  it('is logged once when the database goes away, and goes on when it is back', async () => {
    await seedDemo(database.pool);
    const gate = await openGate(database.url);
    const pool = createPool(gate.url, { max: 2 });
    const quiet = silentLog();
    const market = startMarket({ pool, intervalMs: 1, random: seededRandom(5), log: quiet });
    try {
      await eventsGoOn(database.pool);
      gate.shut();
      const refused = gate.attempts;
      await waitFor(() => gate.attempts > refused + 3, { what: 'four refused attempts' });
      expect(quiet.warnings).to.have.length(1);
      gate.open();
      await eventsGoOn(database.pool);
      expect(quiet.warnings).to.have.length(1);
    } finally {
      await market.stop();
      await pool.end();
      await gate.close();
    }
  });

  it('stops between two moves, and may be stopped twice', async () => {
    await seedDemo(database.pool);
    const market = startMarket({ pool: database.pool, intervalMs: 0, log });
    await eventsGoOn(database.pool);
    await Promise.all([market.stop(), market.stop()]);
    const { rows } = await database.pool.query(
      `select count(*)::int as n from pg_stat_activity
        where datname = current_database() and state = 'idle in transaction'`,
    );
    expect(rows[0].n).to.equal(0);
  });
});

interface RecordingLog {
  readonly warnings: string[];
  info(message: string): void;
  warn(detail: unknown, message?: string): void;
}

function silentLog(): RecordingLog {
  const warnings: string[] = [];
  return { warnings, info: () => {}, warn: (_detail, message) => void warnings.push(String(message)) };
}

async function sizes(pool: pg.Pool): Promise<Record<string, number>> {
  const names = [...TABLES, 'notifications'];
  const columns = names.map((it) => `(select count(*)::int from ${it}) as ${it}`);
  const { rows } = await pool.query<Record<string, number>>(`select ${columns.join(', ')}`);
  return rows[0] ?? {};
}

async function eventsGoOn(pool: pg.Pool): Promise<void> {
  const newest = async () => Number((await pool.query('select max(id) as id from outbox')).rows[0].id);
  const start = await newest();
  await waitFor(async () => (await newest()) > start + 5, { what: 'new events', timeoutMs: 10_000 });
}

interface Gate {
  readonly url: string;
  readonly attempts: number;
  open(): void;
  shut(): void;
  close(): Promise<void>;
}

/** A real port in front of the database that can be shut: connections through it break, and new ones are refused. */
async function openGate(databaseUrl: string): Promise<Gate> {
  const target = new URL(databaseUrl);
  const sockets = new Set<{ destroy(): void }>();
  let shut = false;
  let attempts = 0;
  const server: Server = createServer((socket) => {
    attempts += 1;
    socket.on('error', () => {});
    if (shut) return void socket.destroy();
    const upstream = connect(Number(target.port || 5432), target.hostname);
    upstream.on('error', () => socket.destroy());
    socket.pipe(upstream).pipe(socket);
    for (const it of [socket, upstream]) {
      sockets.add(it);
      it.on('close', () => sockets.delete(it));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String((server.address() as AddressInfo).port);
  const cut = () => {
    for (const it of sockets) it.destroy();
  };
  return {
    url: url.href,
    get attempts() {
      return attempts;
    },
    open() {
      shut = false;
    },
    shut() {
      shut = true;
      cut();
    },
    close() {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
