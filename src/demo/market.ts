// The demo's market. It knows nothing of outbox, relay or HTTP: like any backend, it only writes SQL to the domain
// tables, and it touches only rows that belong to the demo's people.
import type pg from 'pg';
import type { Logger } from 'pino';
import { escrowMoves } from './escrow-moves.ts';
import type { Move, Random } from './move.ts';
import { notificationMoves } from './notification-moves.ts';
import { streamMoves } from './stream-moves.ts';

export interface MarketOptions {
  readonly pool: pg.Pool;
  /** Milliseconds from the end of one move to the next. */
  readonly intervalMs?: number;
  readonly random?: Random;
  readonly log: Pick<Logger, 'info' | 'warn'>;
}

export interface Market {
  /** Ends it and waits for a move under way; may be called twice. */
  stop(): Promise<void>;
}

const ATTEMPTS = 5;
const MOVES: readonly Move[] = [...streamMoves, ...escrowMoves, ...notificationMoves];

/**
 * Starts a simulated market among the people whom `seedDemo` loads: a move now and one every `intervalMs` (400), each in
 * a transaction of its own, until it is stopped. It lives as long as it is left alone, in tables of bounded size. A
 * database that is away is logged once and waited for.
 */
export function startMarket({ pool, intervalMs = 400, random = Math.random, log }: MarketOptions): Market {
  let stopped = false;
  let failing = false;
  let timer: NodeJS.Timeout | undefined;
  let moving = Promise.resolve();

  async function move(): Promise<void> {
    try {
      await inTransaction(pool, (client) => moveSomething(client, random));
      if (failing) log.info('the demo market goes on');
      failing = false;
    } catch (error) {
      if (!failing) log.warn({ err: error }, 'the demo market pauses: the database refused a move');
      failing = true;
    }
    if (!stopped) timer = setTimeout(next, intervalMs);
  }

  function next(): void {
    moving = move();
  }

  next();
  return {
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await moving;
    },
  };
}

/** Makes moves until one has found something to do: the market should not look dead because nobody could resume a stream. */
async function moveSomething(client: pg.ClientBase, random: Random): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    await choose(MOVES, random).play(client, random);
    const { rows } = await client.query<{ wrote: boolean }>(
      'select pg_current_xact_id_if_assigned() is not null as wrote',
    );
    if (rows[0]?.wrote) return;
  }
}

function choose(moves: readonly Move[], random: Random): Move {
  const total = moves.reduce((sum, it) => sum + it.weight, 0);
  let at = random() * total;
  for (const move of moves) {
    at -= move.weight;
    if (at < 0) return move;
  }
  throw new RangeError('random() must give a number below 1');
}

async function inTransaction(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<void>): Promise<void> {
  const client = await pool.connect();
  // A connection that dies while it is idle in our hands reports here first; the next query reports it as well.
  const ignore = () => {};
  client.on('error', ignore);
  let broken: Error | undefined;
  try {
    await client.query('begin');
    await work(client);
    await client.query('commit');
  } catch (error) {
    broken = error instanceof Error ? error : new Error(String(error));
    throw error;
  } finally {
    client.off('error', ignore);
    // Destroyed rather than rolled back: after an error nobody knows what the connection is still worth.
    client.release(broken);
  }
}
