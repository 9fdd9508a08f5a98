import { expect } from 'chai';
import type { Pool } from 'pg';
import { type Asking, Attached, pause } from './attached.ts';
import { at, type StormWorld } from './storm.ts';
import { waitFor } from './wait-for.ts';
import { outboxIds } from './world.ts';

/** Feeds, named topics, single topics and administrators of everything: 26 subscriptions of one world. */
function askingsOf({ people, admin, streams, escrows }: StormWorld): Asking[] {
  const askings: Asking[] = [];
  const query = (topics: readonly string[]): string => topics.map((topic) => `topic=${topic}`).join('&');
  const stream = (n: number): string => `stream:${at(streams, n)}`;
  for (const [n, { id, wallet, token }] of people.entries()) {
    // The person pays one stream, receives the one before, and may have created an escrow.
    const feed = [`user:${id}`, `wallet:${wallet}`, stream(n), stream(n + streams.length - 1)];
    if (n < escrows.length) feed.push(`escrow:${at(escrows, n)}`);
    askings.push({ path: '/v1/events', token, topics: feed });
    const named = [stream(n), `user:${id}`];
    askings.push({ path: `/v1/events?${query(named)}`, token, topics: named });
  }
  for (const [n, escrow] of escrows.entries()) {
    const { token } = at(people, n);
    askings.push({ path: `/v1/escrows/${escrow}/events`, token, topics: [`escrow:${escrow}`] });
    askings.push({
      path: `/v1/streams/${at(streams, n)}/events`,
      token: at(people, n + 1).token,
      topics: [stream(n)],
    });
  }
  askings.push({ path: '/v1/events', token: admin.token, topics: undefined });
  const everything = [...streams.map((id) => `stream:${id}`), ...escrows.map((id) => `escrow:${id}`)];
  askings.push({ path: `/v1/events?${query(everything)}`, token: admin.token, topics: everything });
  return askings;
}

function isRestless(member: number): boolean {
  return member % 4 === 1;
}

/** Those who are attached while things go wrong, and the ledger of what each got. */
export class Audience {
  readonly members: readonly Attached[];
  readonly #after: number;
  #over = false;
  readonly #restless: Promise<void>;

  private constructor(members: readonly Attached[], after: number) {
    this.members = members;
    this.#after = after;
    this.#restless = this.#beRestless();
  }

  /**
   * Attaches everybody; resolves when all are live. One in four is restless: it drops and resumes at random moments.
   * @param pool of the database, in which nothing may be written meanwhile: everybody is owed what comes from now on
   * @param where the service for a member's next connection
   */
  static async attach(pool: Pool, world: StormWorld, where: (member: number) => string): Promise<Audience> {
    const after = (await outboxIds(pool)).at(-1) ?? 0;
    const members = askingsOf(world).map((asking, n) => new Attached(asking, () => where(n)));
    await Promise.all(members.map((member) => member.attach()));
    return new Audience(members, after);
  }

  async #beRestless(): Promise<void> {
    const restless = this.members.filter((_, n) => isRestless(n));
    while (!this.#over) {
      await pause(Math.random() * 60);
      at(restless, Math.floor(Math.random() * restless.length)).drop();
    }
  }

  /** Those who never drop of their own accord. */
  get calm(): Attached[] {
    return this.members.filter((_, n) => !isRestless(n));
  }

  /** Events that the administrator of everything, who is calm, has got. */
  get count(): number {
    return this.members.at(-2)?.ids.length ?? 0;
  }

  get resumes(): number {
    return this.members.reduce((sum, { resumes }) => sum + resumes, 0);
  }

  /**
   * Once nobody writes any more: everybody gets exactly the events of their topics, in order, none missing, none twice.
   * @returns how many events there were
   */
  async expectExact(pool: Pool): Promise<number> {
    for (const member of this.members) {
      const expected = await outboxIds(pool, member.asking.topics, this.#after);
      await waitFor(() => member.ids.length >= expected.length && member.live, {
        what: 'the last events',
        timeoutMs: 20_000,
      }).catch(() => {});
      const { ids } = member;
      const got = new Set(ids);
      const who = `${member.asking.path}: `;
      expect(member.faults, who).to.deep.equal([]);
      expect(
        expected.filter((id) => !got.has(id)),
        `${who}missing`,
      ).to.deep.equal([]);
      expect(ids.length - got.size, `${who}given twice`).to.equal(0);
      expect(ids, `${who}in order`).to.deep.equal(expected);
    }
    return (await outboxIds(pool, undefined, this.#after)).length;
  }

  async detach(): Promise<void> {
    this.#over = true;
    await this.#restless;
    await Promise.all(this.members.map((member) => member.detach()));
  }
}
