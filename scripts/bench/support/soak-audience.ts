import { randomUUID } from 'node:crypto';
import type { Pool } from 'pg';
import { Follower } from '../../../src/verify/follower.ts';
import { Ledger, type Tally, total } from '../../../src/verify/ledger.ts';
import { mintToken } from '../../../test/support/tokens.ts';

export interface SoakAudienceOptions {
  readonly pool: Pool;
  readonly urls: readonly string[];
  readonly subscribers: number;
  readonly topics: number;
}

interface Subscriber {
  readonly follower: Follower;
  readonly ledger: Ledger;
  /** Undefined: an administrator, who gets everything. */
  readonly topic: string | undefined;
  readonly url: string;
  /** Whether its ledger has been given what lies between its start and {@link SoakAudience}'s own place. */
  started: boolean;
}

/** One administrator on each instance gets every event. */
const ADMINISTRATORS_PER_INSTANCE = 1;
/** Stays are short or long, absences mostly short; some are longer than the instances' replay windows reach. */
const stayMs = (): number => 2000 + Math.random() ** 2 * 58_000;
const awayMs = (): number => (Math.random() < 0.1 ? 10_000 + Math.random() * 20_000 : Math.random() * 1500);
/** A subscriber in so many leaves for good each second, and somebody new comes. */
const LEAVES_ONE_IN = 400;
const ROWS = 10_000;

/** Subscribers that drop and resume, leave and come, each with a ledger of what it gets; compared with the outbox as it goes on. */
export class SoakAudience {
  readonly #options: SoakAudienceOptions;
  readonly topics: readonly string[];
  readonly #subscribers = new Set<Subscriber>();
  /** Those who have left, once they have everything that was under way. */
  readonly #leaving = new Set<Subscriber>();
  readonly #left: Tally[] = [];
  #cursor = 0;
  #rows = 0;
  #newcomers = 0;
  #resumesOfLeft = 0;
  #steady = false;

  constructor(options: SoakAudienceOptions) {
    this.#options = options;
    this.topics = Array.from({ length: options.topics }, () => `user:${randomUUID()}`);
  }

  async start(): Promise<void> {
    const { urls, subscribers } = this.#options;
    for (let index = 0; index < subscribers; index += 1) {
      const place = Math.floor(index / urls.length);
      const topic = place < ADMINISTRATORS_PER_INSTANCE ? undefined : this.topics[place % this.topics.length];
      this.#admit(urls[index % urls.length] ?? '', topic);
    }
    await Promise.all([...this.#subscribers].map(({ follower }) => follower.follow()));
  }

  /** From now on nobody leaves or drops. */
  steady(): void {
    this.#steady = true;
    for (const { follower } of this.#subscribers) follower.steady();
  }

  /**
   * Reads what is new in the outbox and compares what it can.
   * @returns how many events somebody still waits for
   */
  async settle(): Promise<number> {
    for (const subscriber of [...this.#subscribers, ...this.#leaving]) await this.#begin(subscriber);
    for (;;) {
      const { rows } = await this.#options.pool.query<{ id: number; topic: string }>(
        'select id, topic from outbox_read($1, $2)',
        [this.#cursor, ROWS],
      );
      this.#owe(rows);
      if (rows.length < ROWS) break;
    }
    for (const { ledger } of this.#subscribers) ledger.settle();
    for (const subscriber of this.#leaving) await this.#letGo(subscriber);
    if (!this.#steady) this.#change();
    return this.state().owed;
  }

  tally(): Tally {
    const present = [...this.#subscribers, ...this.#leaving].map(({ ledger }) => ledger.tally());
    return total([...this.#left, ...present]);
  }

  /** Nothing more will come. */
  async finish(): Promise<Tally> {
    const present = [...this.#subscribers, ...this.#leaving];
    await Promise.all(present.map(({ follower }) => follower.stop()));
    return total([...this.#left, ...present.map(({ ledger }) => ledger.finish())]);
  }

  state(): { open: number; resumes: number; newcomers: number; owed: number; rows: number } {
    const present = [...this.#subscribers, ...this.#leaving];
    return {
      open: present.length,
      resumes: present.reduce((sum, { follower }) => sum + follower.resumes, this.#resumesOfLeft),
      newcomers: this.#newcomers,
      owed: present.reduce((sum, { ledger }) => sum + ledger.owed, 0),
      rows: this.#rows,
    };
  }

  #admit(url: string, topic: string | undefined): void {
    const ledger = new Ledger();
    const sub = topic?.slice('user:'.length) ?? randomUUID();
    const follower = new Follower({
      url: `${url}/v1/events${topic === undefined ? '' : `?topic=${topic}`}`,
      token: mintToken(topic === undefined ? { sub, role: 'ADMIN' } : { sub }, { expiresIn: 24 * 3600 }),
      stayMs,
      awayMs,
      onEvent: ({ id }) => ledger.receive(id),
    });
    this.#subscribers.add({ follower, ledger, topic, url, started: false });
    void follower.follow();
  }

  /** A subscriber that has connected is owed what lies between its start and our place; from there on it gets what we read. */
  async #begin(subscriber: Subscriber): Promise<void> {
    const { follower, ledger, topic } = subscriber;
    if (subscriber.started || follower.start === undefined) return;
    const { rows } = await this.#options.pool.query<{ id: number }>(
      'select id from outbox where ($1::text is null or topic = $1) and id > $2 and id <= $3 order by id',
      [topic, follower.start, this.#cursor],
    );
    ledger.expect(rows.map(({ id }) => id));
    subscriber.started = true;
  }

  #owe(rows: readonly { id: number; topic: string }[]): void {
    const byTopic = new Map<string, number[]>();
    for (const { id, topic } of rows) {
      const ids = byTopic.get(topic);
      if (ids === undefined) byTopic.set(topic, [id]);
      else ids.push(id);
    }
    const all = rows.map(({ id }) => id);
    for (const { follower, ledger, topic, started } of [...this.#subscribers, ...this.#leaving]) {
      const ids = topic === undefined ? all : (byTopic.get(topic) ?? []);
      if (started) ledger.expect(ids.filter((id) => id > (follower.start ?? 0)));
    }
    this.#rows += rows.length;
    this.#cursor = all.at(-1) ?? this.#cursor;
  }

  /** Some leave, and for each somebody new comes, who begins at the head. */
  #change(): void {
    for (const subscriber of [...this.#subscribers]) {
      if (!subscriber.started || subscriber.topic === undefined || Math.random() * LEAVES_ONE_IN > 1)
        continue;
      this.#subscribers.delete(subscriber);
      this.#leaving.add(subscriber);
      subscriber.follower.steady();
      this.#admit(subscriber.url, subscriber.topic);
      this.#newcomers += 1;
    }
  }

  /** Who leaves stays until a moment at which nothing of its own is under way. */
  async #letGo(subscriber: Subscriber): Promise<void> {
    const { follower, ledger } = subscriber;
    ledger.settle();
    if (ledger.owed > 0) return;
    this.#leaving.delete(subscriber);
    await follower.stop();
    this.#resumesOfLeft += follower.resumes;
    this.#left.push(ledger.tally());
  }
}
