import { expect } from 'chai';
import pg, { type Pool } from 'pg';
import { pause } from './attached.ts';
import { column } from './session.ts';
import { at, pickStatements, type StormWorld } from './storm.ts';

export interface FaultWritersOptions {
  readonly count?: number;
  /** SQL that each writer's session begins with. */
  readonly begin?: string;
}

/**
 * Backends that change rows whatever happens: each connects again when it is cut off and goes on. Each transaction publishes a mark
 * of its own, so that the ledger can tell what the database promised: a mark whose COMMIT was answered is in the outbox once,
 * one that failed is there once or not at all.
 */
export class FaultWriters {
  readonly #url: string;
  readonly #world: StormWorld;
  readonly #promised: string[] = [];
  readonly #failures = new Map<string, number>();
  readonly #running: Promise<void>[];
  #over = false;

  constructor(url: string, world: StormWorld, { count = 6, begin = '' }: FaultWritersOptions = {}) {
    this.#url = url;
    this.#world = world;
    this.#running = Array.from({ length: count }, (_, n) => this.#write(n, begin));
  }

  /** Commits that were answered. */
  get commits(): number {
    return this.#promised.length;
  }

  /** Transactions that failed, by SQLSTATE or reason. */
  get failures(): ReadonlyMap<string, number> {
    return this.#failures;
  }

  async stop(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#running);
  }

  /** Once they have stopped: the database kept its promises. */
  async expectKept(pool: Pool): Promise<void> {
    const marks = await column<string>(
      pool,
      `select data->>'mark' from outbox where type = 'test:marked' order by id`,
    );
    const kept = new Set(marks);
    expect(marks.length - kept.size, 'marks twice in the outbox').to.equal(0);
    expect(
      this.#promised.filter((mark) => !kept.has(mark)),
      'promised and lost',
    ).to.deep.equal([]);
  }

  async #write(writer: number, begin: string): Promise<void> {
    let client: pg.Client | undefined;
    for (let n = 1; !this.#over; n += 1) {
      try {
        client ??= await this.#connect(writer, begin);
        await this.#transact(client, `${process.pid}-${performance.now()}-${writer}-${n}`);
      } catch (error) {
        this.#note(error);
        // A statement that failed leaves the session usable; one that was cut off does not.
        if (client !== undefined && !(await usable(client))) {
          void client.end().catch(() => {});
          client = undefined;
        }
        await pause(15);
      }
      await pause(Math.random() * 16);
    }
    await client?.end().catch(() => {});
  }

  async #connect(writer: number, begin: string): Promise<pg.Client> {
    const client = new pg.Client({
      connectionString: this.#url,
      application_name: `writer ${writer}`,
      connectionTimeoutMillis: 2000,
      query_timeout: 20_000,
    });
    client.on('error', () => {});
    await client.connect();
    if (begin !== '') await client.query(begin);
    return client;
  }

  async #transact(client: pg.Client, mark: string): Promise<void> {
    await client.query('begin');
    for (const statement of pickStatements(this.#world)) await client.query(statement);
    const stream = at(this.#world.streams, Math.floor(Math.random() * 1000));
    await client.query("select outbox_publish($1, 'test:marked', json_build_object('mark', $2::text))", [
      `stream:${stream}`,
      mark,
    ]);
    if (Math.random() < 0.05) {
      await client.query('set constraints all immediate');
      await client.query('rollback');
      return;
    }
    await client.query('commit');
    this.#promised.push(mark);
  }

  #note(error: unknown): void {
    const { code, message } = error as { code?: string; message: string };
    const reason = code ?? message;
    this.#failures.set(reason, (this.#failures.get(reason) ?? 0) + 1);
  }
}

async function usable(client: pg.Client): Promise<boolean> {
  try {
    await client.query('rollback');
    return true;
  } catch {
    return false;
  }
}
