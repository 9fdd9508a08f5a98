import { expect } from 'chai';
import { lookUpMemberships, type Membership } from '../../src/access/actor.ts';
import type { LookUpMemberships } from '../../src/access/look-up.ts';
import { MembershipQueue, type MembershipQueueOptions } from '../../src/access/membership-queue.ts';
import { suppliedMemberships } from '../../src/access/supplied-membership.ts';
import type { Claims } from '../../src/access/token.ts';
import { Blockade, untilWaiting } from '../support/blockade.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { editFunction, makeGate } from '../support/gate.ts';
import { failure, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';
import { makeEscrow, makePerson, type Person } from '../support/world.ts';

const INVITE = `insert into escrow_parties (escrow_id, user_id, role) values ($1, $2, 'buyer')`;
const GUARDED = suppliedMemberships({ schema: 'app', name: 'guarded' });

describe('look-ups that wait for one another', () => {
  let database: TestDatabase;
  const people: Person[] = [];

  before(async () => {
    database = await createTestDatabase();
    for (let n = 1; n <= 40; n += 1) people.push(await makePerson(database.pool, n));
    await database.pool.query(`
      create schema app;
      create function app.guarded(subject text, wallet text, role text) returns setof text language plpgsql stable as $$
      begin
        if role = 'raises' then raise exception 'not this one'; end if;
        if role = 'slow' then perform pg_sleep(0.05); end if;
        return next 'user:' || subject;
      end $$`);
  });
  after(() => database.drop());

  const makeQueue = (
    lookUp: LookUpMemberships = lookUpMemberships,
    options: Partial<MembershipQueueOptions> = {},
  ) =>
    new MembershipQueue({
      db: database.pool,
      lookUp,
      concurrency: 4,
      patienceMs: 5000,
      mostWaitMs: 30_000,
      clock: () => performance.now(),
      ...options,
    });

  function person(n: number): Person {
    return people[n % people.length] as Person;
  }

  function claims(n: number, others: Partial<Claims> = {}): Claims {
    const { id } = person(n);
    return {
      subject: id,
      walletAddress: null,
      role: null,
      tokenId: null,
      issuedAt: 2e9,
      expiresAt: 4e9,
      ...others,
    };
  }

  const idOf = ({ own }: Membership): string | undefined => own[0];
  const ownOf = (n: number): string => `user:${person(n).id}`;

  /** Two statements that wait in the database, and whoever asks now waits for them. */
  async function busy(
    queue: MembershipQueue,
  ): Promise<{ blockade: Blockade; busy: Promise<Membership>[]; backends: number[] }> {
    const blockade = await Blockade.of(database.pool, 'outbox_revocations');
    const first = queue.lookUp(claims(0), 0);
    await blockade.waiting('with ', 1);
    const second = queue.lookUp(claims(1), 0);
    const backends = await blockade.waiting('with ', 2);
    for (const it of [first, second]) it.catch(() => {});
    return { blockade, busy: [first, second], backends };
  }

  it('who comes alone goes at once, in a statement of their own', async () => {
    const queue = makeQueue();
    for (let n = 0; n < 5; n += 1) expect(idOf(await queue.lookUp(claims(n), 0))).to.equal(ownOf(n));
    expect([queue.lookUps, queue.statements, queue.waiting]).to.deep.equal([5, 5, 0]);
  });

  it('a herd goes in a few statements, and everybody gets what is theirs', async () => {
    const queue = makeQueue();
    const found = await Promise.all(Array.from({ length: 1000 }, (_, n) => queue.lookUp(claims(n), 0)));
    for (const [n, membership] of found.entries()) expect(idOf(membership)).to.equal(ownOf(n));
    expect(queue.lookUps).to.equal(1000);
    // One that found nobody before it, and hundreds.
    expect(queue.statements).to.be.within(11, 12);
  });

  it('nobody joins a statement that is under way: what was committed since they came is in theirs', async () => {
    const queue = makeQueue();
    const escrow = await makeEscrow(database.pool, person(9));
    const after = await scalar<number>(database.pool, 'select outbox_head()');
    const gate = await makeGate(database.pool);
    // The last that a look-up does, when its snapshot has long been taken.
    await editFunction(database.pool, 'outbox_oldest', /return \(/, (it) => `perform ${gate.wait}; ${it}`);
    await gate.shut();
    const first = queue.lookUp(claims(0), after);
    await untilWaiting(database.pool, 'with known', 1);
    const second = queue.lookUp(claims(1), after);
    await untilWaiting(database.pool, 'with known', 2);
    const [early, late] = [queue.lookUp(claims(2), after), queue.lookUp(claims(3), after)];
    expect(queue.waiting).to.equal(2);
    await database.pool.query(INVITE, [escrow, person(2).id]);
    await database.pool.query(INVITE, [escrow, person(1).id]);
    await gate.open();
    const topic = `escrow:${escrow}`;
    const granted = await early;
    expect(granted.topics.has(topic)).to.equal(true);
    expect(granted.changes.map((change) => 'topic' in change && change.topic)).to.deep.equal([topic]);
    expect((await late).topics.size).to.equal(0);
    expect((await late).changes).to.deep.equal([]);
    // Whose statement was under way sees nothing of it, and has it to come.
    const before = await second;
    expect([before.topics.size, before.changes]).to.deep.equal([0, []]);
    await first;
    expect(queue.statements).to.equal(3);
    gate.end();
  });

  it('each has their own start cursor', async () => {
    const queue = makeQueue();
    const me = person(20);
    const ids: number[] = [];
    for (let n = 0; n < 5; n += 1) {
      await database.pool.query(INVITE, [await makeEscrow(database.pool, person(9)), me.id]);
      ids.push(await scalar<number>(database.pool, 'select outbox_head()'));
    }
    const { blockade } = await busy(queue);
    const asked = ids.map((id) => queue.lookUp(claims(20), id));
    await blockade.lift();
    const left = (await Promise.all(asked)).map(({ changes }) => changes.length);
    expect(left).to.deep.equal([4, 3, 2, 1, 0]);
    expect(queue.statements).to.equal(3);
  });

  it('while access changes, what each sees and the changes that led to it are of one moment', async () => {
    const queue = makeQueue();
    const after = await scalar<number>(database.pool, 'select outbox_head()');
    let over = false;
    const write = async (n: number) => {
      while (!over) {
        const escrow = await makeEscrow(database.pool, person(9));
        await database.pool.query(INVITE, [escrow, person(n).id]);
        if (n % 2 === 0)
          await database.pool.query('delete from escrow_parties where escrow_id = $1', [escrow]);
      }
    };
    const writers = Promise.all([30, 31, 32, 33].map(write));
    let changes = 0;
    for (let round = 0; round < 20; round += 1) {
      const found = await Promise.all(
        Array.from({ length: 40 }, (_, n) => queue.lookUp(claims(30 + (n % 4)), after)),
      );
      for (const membership of found) {
        const topics = new Set<string>();
        for (const change of membership.changes) {
          if (change.kind === 'granted') topics.add(change.topic);
          else if (change.kind === 'revoked') topics.delete(change.topic);
        }
        changes += membership.changes.length;
        expect([...membership.topics].toSorted()).to.deep.equal([...topics].toSorted());
      }
    }
    over = true;
    await writers;
    expect(changes).to.be.above(0);
    expect(queue.statements).to.be.below(20 * 5);
  });

  it('one who makes the statement fail fails alone; a revoked credential concerns nobody else', async () => {
    const queue = makeQueue();
    await database.pool.query(`select outbox_revoke(jti => 'lost')`);
    const { blockade } = await busy(queue);
    const roles = [
      'USER',
      'a\u0000b',
      '\ud800',
      '\udc00\ud800',
      'R'.repeat(10_000),
      '{"a",NULL}',
      '\u0000',
      "'; drop table users; --",
    ];
    const poisoned = roles.map((role, n) => queue.lookUp(claims(n, { subject: `nobody-${n}`, role }), 0));
    const revoked = queue.lookUp(claims(8, { tokenId: 'lost' }), 0);
    const good = Array.from({ length: 20 }, (_, n) => queue.lookUp(claims(n), 0));
    const settled = Promise.allSettled(poisoned);
    const refused = failure(revoked);
    await blockade.lift();
    expect(
      (await settled).map((it) => (it.status === 'fulfilled' ? it.value.actor.role : it.reason.code)),
    ).to.deep.equal([
      'USER',
      '22021',
      '\ufffd',
      '\ufffd\ufffd',
      'R'.repeat(10_000),
      '{"a",NULL}',
      '22021',
      "'; drop table users; --",
    ]);
    expect((await refused).code).to.equal('unauthenticated');
    for (const [n, membership] of (await Promise.all(good)).entries())
      expect(idOf(membership)).to.equal(ownOf(n));
    expect(queue.statements, 'two, one together, each alone').to.equal(2 + 1 + 8 + 1 + 20);
  });

  it("one for whom an adopter's function raises fails alone", async () => {
    const queue = makeQueue(GUARDED);
    const asked = Array.from({ length: 30 }, (_, n) =>
      queue.lookUp(claims(n, { role: n % 10 === 5 ? 'raises' : null }), 0),
    );
    const outcomes = await Promise.allSettled(asked);
    for (const [n, outcome] of outcomes.entries())
      expect(outcome.status === 'fulfilled' ? idOf(outcome.value) : outcome.reason.message).to.equal(
        n % 10 === 5 ? 'not this one' : ownOf(n),
      );
    const next = await Promise.all(Array.from({ length: 30 }, (_, n) => queue.lookUp(claims(n), 0)));
    expect(next.map(idOf)).to.deep.equal(next.map((_, n) => ownOf(n)));
  });

  for (const end of ['pg_cancel_backend', 'pg_terminate_backend'])
    it(`a statement that is ended from outside is made up for, each alone: ${end}`, async () => {
      const queue = makeQueue();
      const { blockade, busy: running, backends } = await busy(queue);
      const asked = Array.from({ length: 10 }, (_, n) => queue.lookUp(claims(n), 0));
      // The one that is alone has nobody to be made up for.
      await scalar(database.pool, `select ${end}($1)`, [backends[0]]);
      const ended = await Promise.race(running.map((it) => failure(it)));
      expect(ended.code).to.match(/^57/);
      const other = backends[1];
      const together = await waitFor(
        async () => (await blockade.waiting('with ordinality')).find((pid) => pid !== other) ?? 0,
        { what: 'the statement of the ten' },
      );
      await scalar(database.pool, `select ${end}($1)`, [together]);
      await blockade.waiting('with known', 11);
      await blockade.lift();
      expect((await Promise.all(asked)).map(idOf)).to.deep.equal(asked.map((_, n) => ownOf(n)));
      expect(queue.statements).to.equal(2 + 1 + 10);
    });

  it('statements that are slow become smaller, and larger again when they are quick', async () => {
    const queue = makeQueue(GUARDED, { concurrency: 2 });
    const herd = async (size: number, role: string | null) => {
      const before = queue.statements;
      await Promise.all(Array.from({ length: size }, (_, n) => queue.lookUp(claims(n, { role }), 0)));
      return queue.statements - before;
    };
    expect(await herd(9, 'slow'), 'one, and the others').to.equal(2);
    expect(await herd(9, 'slow'), 'four at most').to.be.within(3, 5);
    expect(await herd(200, null)).to.be.above(4);
    expect(await herd(200, null)).to.be.within(3, 4);
  });

  it('while more come at every turn they are waited for, but not for ever', async () => {
    let now = 1000;
    const queue = makeQueue(lookUpMemberships, { clock: () => now });
    const blockade = await Blockade.of(database.pool, 'outbox_revocations');
    const asked = [queue.lookUp(claims(0), 0)];
    let coming = 40;
    await new Promise<void>((resolve) => {
      const turn = (): void => {
        coming -= 1;
        if (coming === 0) resolve();
        else setImmediate(turn);
        asked.push(queue.lookUp(claims(coming), 0));
        if (coming > 20) expect(queue.statements, 'all wait for those who come').to.equal(1);
        else now += 50;
      };
      setImmediate(turn);
    });
    expect(queue.statements).to.equal(2);
    await blockade.lift();
    await Promise.all(asked);
    expect(queue.statements).to.equal(3);
  });

  it('who has waited too long is refused; who comes later is not', async () => {
    let now = 1000;
    const queue = makeQueue(lookUpMemberships, { clock: () => now });
    const { blockade, busy: running } = await busy(queue);
    const tired = [queue.lookUp(claims(2), 0), queue.lookUp(claims(3), 0)].map((it) => failure(it));
    now += 4000;
    const patient = queue.lookUp(claims(4), 0);
    now += 1000;
    const newcomer = queue.lookUp(claims(5), 0);
    for (const error of tired) expect((await error).message).to.equal('too many look-ups are waiting');
    expect(queue.waiting).to.equal(2);
    await blockade.lift();
    expect(idOf(await patient)).to.equal(ownOf(4));
    expect(idOf(await newcomer)).to.equal(ownOf(5));
    await Promise.all(running);
    expect(queue.statements).to.equal(3);
    expect(await failure(queue.lookUp(claims(0, { role: '\u0000', subject: 'nobody' }), 0))).to.have.property(
      'code',
      '22021',
    );
  });

  it('who has waited that long is not refused when statements come back: it is only their turn that they wait for', async () => {
    let now = 1000;
    const queue = makeQueue(lookUpMemberships, { clock: () => now });
    const { blockade, busy: running } = await busy(queue);
    const patient = queue.lookUp(claims(2), 0);
    now += 29_000;
    await blockade.lift();
    await Promise.all(running);
    expect(idOf(await patient)).to.equal(ownOf(2));
  });

  it('who has waited longest of all is refused even while statements come back', async () => {
    let now = 1000;
    const queue = makeQueue(lookUpMemberships, { clock: () => now });
    const { blockade, busy: running } = await busy(queue);
    const late = failure(queue.lookUp(claims(2), 0));
    now += 30_000;
    await blockade.lift();
    await Promise.all(running);
    expect((await late).message).to.equal('too many look-ups are waiting');
    expect(idOf(await queue.lookUp(claims(3), 0))).to.equal(ownOf(3));
  });

  it('an answer of long ago makes nobody wait for longer', async () => {
    let now = 1000;
    const queue = makeQueue(lookUpMemberships, { clock: () => now });
    await queue.lookUp(claims(0), 0);
    now += 10_000;
    const { blockade, busy: running } = await busy(queue);
    const tired = failure(queue.lookUp(claims(2), 0));
    now += 5000;
    const newcomer = queue.lookUp(claims(3), 0);
    expect((await tired).message).to.equal('too many look-ups are waiting');
    await blockade.lift();
    expect(idOf(await newcomer)).to.equal(ownOf(3));
    await Promise.all(running);
  });

  it('who came first goes first', async () => {
    const order: number[] = [];
    const queue = makeQueue((db, askers) => {
      order.push(...askers.map(({ after }) => after));
      return lookUpMemberships(db, askers);
    });
    const came = Array.from({ length: 750 }, (_, n) => n);
    await Promise.all(came.map((n) => queue.lookUp(claims(n), n)));
    expect(order).to.deep.equal(came);
  });

  it('statements that fail make the next ones smaller, in whatever order they come back', async () => {
    const sizes: number[] = [];
    const held: (() => void)[] = [];
    let isOver = false;
    const queue = makeQueue(async (db, askers) => {
      if (askers.length > 1) sizes.push(askers.length);
      if (askers.length > 1 && !isOver) await new Promise<void>((resolve) => held.push(resolve));
      return GUARDED(db, askers);
    });
    const asked = Array.from({ length: 251 }, (_, n) =>
      queue.lookUp(claims(n, { role: n % 20 === 5 ? 'raises' : null }), 0),
    );
    const outcomes = Promise.allSettled(asked);
    expect(sizes).to.deep.equal([100, 100]);
    held[1]?.();
    await waitFor(() => held.length === 3, { what: 'the statement of the others' });
    held[2]?.();
    await Promise.allSettled(asked.slice(201));
    isOver = true;
    held[0]?.();
    for (const [n, outcome] of (await outcomes).entries())
      expect(outcome.status).to.equal(n % 20 === 5 ? 'rejected' : 'fulfilled');
    await Promise.all(Array.from({ length: 60 }, (_, n) => queue.lookUp(claims(n), 0)));
    expect(sizes.slice(0, 5)).to.deep.equal([100, 100, 50, 25, 25]);
  });
});
