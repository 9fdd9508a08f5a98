import { expect } from 'chai';
import { lookUpMemberships, type Membership } from '../../src/access/actor.ts';
import { type Asker, alone, createLookUp, type LookUpMemberships } from '../../src/access/look-up.ts';
import { suppliedMemberships } from '../../src/access/supplied-membership.ts';
import type { Claims } from '../../src/access/token.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { seededRandom } from '../support/seeded-random.ts';
import { failure, scalar } from '../support/session.ts';

const SEED = 20_261_122;
const NAMES = 24;

const userId = (n: number): string => `${String(n).padStart(8, '0')}-0000-4000-8000-00000000000a`;
const wallet = (n: number): string => `0x${n.toString(16).padStart(40, 'a')}`;

/** What can be compared. */
function plain(outcome: Membership | Error): unknown {
  if (outcome instanceof Error) return `${outcome.name}: ${outcome.message}`;
  return { ...outcome, topics: [...outcome.topics].toSorted(), credential: sorted(outcome.credential) };
}

function sorted({ topics, issuedAt }: Membership['credential']): unknown {
  return { topics: [...topics].toSorted(), issuedAt };
}

describe('memberships looked up together', () => {
  const random = seededRandom(SEED);
  const whole = (below: number): number => Math.floor(random() * below);
  const one = <T>(of: readonly T[]): T => of[whole(of.length)] as T;
  let database: TestDatabase;

  before(async () => {
    database = await createTestDatabase();
    await database.pool.query(`
      create schema app;
      create function app.visible_topics(subject text, wallet text, role text) returns setof text language sql stable as $$
        select 'user:' || subject where role is distinct from 'GONE'
        union all select 'wallet:' || wallet where length(role) > 4
        union all select '*' where role = 'ADMIN'
        union all select null
        union all select 'stream:' || s.id from streams s where s.payer = wallet or s.recipient = subject
      $$;`);
    for (let step = 0; step < 400; step += 1) await live();
  });
  after(() => database.drop());

  /** Something happens to somebody; what the database does not allow does not happen. */
  async function live(): Promise<void> {
    const [a, b] = [whole(NAMES), whole(NAMES)];
    const [text, values] = one<() => [string, unknown[]]>([
      () => [
        'insert into users (id, wallet_address, role, is_active) values ($1, $2, $3, $4)',
        [userId(a), one([null, wallet(b)]), one(['USER', 'USER', 'ADMIN', 'SUPER_ADMIN']), random() < 0.8],
      ],
      () => ['update users set wallet_address = $2 where id = $1', [userId(a), one([null, wallet(b)])]],
      () => ['update users set is_active = $2 where id = $1', [userId(a), random() < 0.7]],
      () => ['update users set role = $2 where id = $1', [userId(a), one(['USER', 'ADMIN'])]],
      () => [
        `insert into streams (payer, recipient, status, rate_per_second, total_amount) values ($1, $2, 'active', 1, 1000)`,
        [wallet(a), wallet(b)],
      ],
      () => [`insert into escrows (title, amount, creator_id) values ('boat', 100, $1)`, [userId(a)]],
      () => [
        `insert into escrow_parties (escrow_id, user_id, role, status) select id, $1, $2, $3 from escrows order by id limit 1 offset $4`,
        [userId(a), one(['buyer', 'seller']), one(['pending', 'accepted', 'rejected']), whole(5)],
      ],
      () => ['delete from escrow_parties where user_id = $1', [userId(a)]],
      () => ['select outbox_revoke(sub => $1, issued_before => to_timestamp($2))', [wallet(a), whole(1000)]],
      () => ['select outbox_revoke(sub => $1, issued_before => to_timestamp($2))', [userId(a), whole(1000)]],
      () => ['select outbox_revoke(jti => $1)', [`token ${a}`]],
    ])();
    await database.pool.query(text, values).catch(() => {});
  }

  function asker(head: number): Asker {
    const claims: Claims = {
      subject: one([
        userId(whole(NAMES + 4)),
        userId(whole(NAMES)).toUpperCase(),
        wallet(whole(NAMES + 4)),
        'somebody',
      ]),
      walletAddress: one([null, wallet(whole(NAMES)), wallet(whole(NAMES)).toUpperCase().replace('X', 'x')]),
      role: one([
        ...[null, 'USER', 'ADMIN', 'GONE', 'null', 'NULL', '', '\\', '"', '{}', '{"a",b}\\', '\ud800'],
        'R'.repeat(10_000),
      ]),
      tokenId: one([null, null, `token ${whole(NAMES * 4)}`]),
      issuedAt: one([null, whole(1000), 2e9, 2e9, 2e9, 0.5, -0, Number.NaN, -Infinity, Infinity]),
      expiresAt: 4e9,
    };
    return { claims, after: one([0, whole(head), head, head + 100]) };
  }

  const LOOK_UPS: Record<string, LookUpMemberships> = {
    'in our own tables': lookUpMemberships,
    'by a function': suppliedMemberships({ schema: 'app', name: 'visible_topics' }),
  };
  for (const [name, lookUp] of Object.entries(LOOK_UPS)) {
    it(`are what each would be alone, ${name}`, async () => {
      const head = await scalar<number>(database.pool, 'select outbox_head()');
      const seen: (Membership | Error)[] = [];
      for (const size of [2, 3, 7, 20, 64, 100, 130]) {
        const askers: Asker[] = [];
        // Some come again with the very claims of another, from somewhere else.
        while (askers.length < size)
          askers.push(
            askers.length > 0 && random() < 0.2
              ? { claims: one(askers).claims, after: one([0, whole(head), Number.MAX_SAFE_INTEGER]) }
              : asker(head),
          );
        const { outcomes, seconds } = await lookUp(database.pool, askers);
        expect(seconds).to.be.above(0);
        expect(outcomes).to.have.length(size);
        for (const [index, { claims, after }] of askers.entries()) {
          const single = await alone(lookUp)(database.pool, claims, after).catch((error: Error) => error);
          expect(plain(outcomes[index] as Membership), JSON.stringify(claims)).to.deep.equal(plain(single));
        }
        seen.push(...outcomes);
      }
      const found = seen.filter((outcome): outcome is Membership => !(outcome instanceof Error));
      // All that there is to be told apart was there.
      expect(seen.length - found.length, 'revoked').to.be.within(20, seen.length - 20);
      expect(found.some(({ seesAll }) => seesAll)).to.equal(true);
      expect(found.some(({ actor }) => !actor.isActive)).to.equal(true);
      expect(found.some(({ own }) => own.length === 2)).to.equal(true);
      expect(found.filter(({ topics }) => topics.size > 0).length).to.be.above(50);
      expect(found.filter(({ changes }) => changes.length > 0).length).to.be.above(20);
    });
  }

  it('one whose row does not come back gets an error, and nobody the row of another', async () => {
    const membership = (row: { name: string }) => {
      if (row.name === 'broken') throw new Error('a row that is none');
      return { own: [row.name] } as unknown as Membership;
    };
    const lookUp = createLookUp({
      columns: { name: 'text' },
      text: ({ name }, isAfter) =>
        `select ${name} as name from (select 7 as id) o where ${name} <> 'missing' and ${isAfter}`,
      values: ({ subject }) => ({ name: subject }),
      membership,
    });
    const named = (subject: string, after = 6): Asker => ({
      claims: { subject, walletAddress: null, role: null, tokenId: null, issuedAt: null, expiresAt: 4e9 },
      after,
    });
    const { outcomes } = await lookUp(database.pool, [
      named('missing'),
      named('ana'),
      named('broken'),
      named('late', 7),
      named('ben', 0),
    ]);
    expect(outcomes.map((it) => (it instanceof Error ? it.message : it.own[0]))).to.deep.equal([
      'the membership query returned nothing',
      'ana',
      'a row that is none',
      'the membership query returned nothing',
      'ben',
    ]);
    const none = await lookUp(database.pool, [named('missing'), named('missing')]);
    expect(none.outcomes.every((outcome) => outcome instanceof Error)).to.equal(true);
    const single = await failure(alone(lookUp)(database.pool, named('missing').claims, 0));
    expect(single.message).to.equal('the membership query returned nothing');
  });
});
