import { expect } from 'chai';
import type { Pool } from 'pg';
import { tokenTopic } from '../../src/access/revocation.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { column, failure, openSession, scalar, untilBlocked } from '../support/session.ts';
import { makePerson, type Person } from '../support/world.ts';

const BAD_VALUE = '22023';
const NO_SERIALIZATION = '40001';

describe('outbox_revoke', () => {
  let database: TestDatabase;
  let pool: Pool;
  let people = 0;
  let person: Person;

  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
  });
  after(() => database.drop());
  beforeEach(async () => {
    people += 1;
    person = await makePerson(pool, people);
  });

  const ownTopics = ({ id, wallet }: Person) => [`user:${id}`, `wallet:${wallet}`];
  const events = (topic: string) =>
    column<number>(
      pool,
      `select id from outbox where type = 'access:credentials_revoked' and topic = $1 order by id`,
      [topic],
    );
  const kept = async (topic: string) =>
    (await pool.query('select * from outbox_revocations where topic = $1', [topic])).rows[0];
  const revoke = (values: string, ...parameters: unknown[]) =>
    column<string>(pool, `select outbox_revoke(${values})`, parameters);

  it('of a user id or of the wallet concerns both, with one event each that the row names', async () => {
    const asId = [person.id.toUpperCase(), person.wallet.toUpperCase().replace('X', 'x')];
    for (const [index, sub] of asId.entries()) {
      expect(await revoke('sub => $1', sub)).to.deep.equal(ownTopics(person));
      for (const topic of ownTopics(person)) {
        const ids = await events(topic);
        expect(ids).to.have.length(index + 1);
        expect((await kept(topic)).event_id).to.equal(ids.at(-1));
      }
    }
  });

  it('of a wallet that is nobody’s concerns it alone', async () => {
    expect(await revoke("'somebody'")).to.deep.equal(['wallet:somebody']);
    expect(await kept('wallet:somebody')).to.include({ subject: 'somebody', token_id: null });
  });

  for (const jti of ['a', 'x:y z/\u00e9\u{1f600}\n"\\', 'é'.repeat(1024)])
    it(`of a jti, whatever it is made of: ${JSON.stringify(jti.slice(0, 20))}`, async () => {
      expect(await revoke('jti => $1', jti)).to.deep.equal([tokenTopic(jti)]);
      expect(await kept(tokenTopic(jti))).to.include({ token_id: jti, subject: null });
      expect(await events(tokenTopic(jti))).to.have.length(1);
      expect(await scalar(pool, 'select data from outbox order by id desc limit 1')).to.deep.equal({
        issuedBefore: null,
      });
    });

  it('lasts until it is told to, by default for ever, and reaches back from now by default', async () => {
    const before = await scalar<Date>(pool, 'select clock_timestamp()');
    await revoke('$1', person.id);
    const topic = `user:${person.id}`;
    expect(
      await scalar(pool, `select until = 'infinity' from outbox_revocations where topic = $1`, [topic]),
    ).to.equal(true);
    const after = await scalar<Date>(pool, 'select clock_timestamp()');
    expect((await kept(topic)).issued_before).to.be.within(before, after);
  });

  it('twice adds nothing, no row and no event, unless the second is wider', async () => {
    const again = `'twice', issued_before => '2030-01-01', until => '2031-01-01'`;
    await revoke(again);
    const first = await kept('wallet:twice');
    for (const narrower of [again, `'twice', issued_before => '2029-01-01', until => '2030-01-01'`])
      expect(await revoke(narrower)).to.deep.equal(['wallet:twice']);
    expect(await kept('wallet:twice')).to.deep.equal(first);
    expect(await events('wallet:twice')).to.deep.equal([first.event_id]);
    await revoke(`'twice', issued_before => '2029-01-01', until => '2032-01-01'`);
    await revoke(`'twice', issued_before => '2031-01-01', until => '2030-01-01'`);
    const [, , last] = await events('wallet:twice');
    const wider = await kept('wallet:twice');
    expect(wider.event_id).to.equal(last);
    expect(wider.issued_before).to.deep.equal(new Date(2031, 0, 1));
    expect(wider.until).to.deep.equal(new Date(2032, 0, 1));
  });

  it('that is rolled back never was', async () => {
    const session = await openSession(pool);
    await session.query('begin');
    await session.query("select outbox_revoke('rolled-back')");
    await session.query('rollback');
    session.end();
    expect(await kept('wallet:rolled-back')).to.equal(undefined);
    expect(await events('wallet:rolled-back')).to.deep.equal([]);
  });

  it('in a transaction that stays open holds back no reader', async () => {
    const session = await openSession(pool);
    await session.query('begin');
    await session.query("select outbox_revoke('long')");
    expect(await scalar(pool, 'select count(*) from outbox_inflight')).to.equal(0);
    await session.query('commit');
    session.end();
    expect(await events('wallet:long')).to.have.length(1);
  });

  it('twice at once is decided one after the other: the second waits, and adds its own width', async () => {
    const [first, second] = [await openSession(pool), await openSession(pool)];
    await first.query('begin');
    await first.query(`select outbox_revoke('raced', until => '2031-01-01', issued_before => '2030-01-01')`);
    const waiting = second.query(
      `select outbox_revoke('raced', until => '2032-01-01', issued_before => '2029-01-01')`,
    );
    await untilBlocked(pool, second.pid);
    await first.query('commit');
    await waiting;
    expect(await kept('wallet:raced')).to.deep.include({
      issued_before: new Date(2030, 0, 1),
      until: new Date(2032, 0, 1),
    });
    expect(await events('wallet:raced')).to.have.length(2);
    first.end();
    second.end();
  });

  it('under repeatable read overlooks none that came meanwhile: it fails, to be tried again', async () => {
    await revoke("'old', issued_before => '2028-01-01'");
    const session = await openSession(pool);
    await session.query('begin isolation level repeatable read; select from outbox_revocations');
    await revoke("'old', issued_before => '2030-01-01'");
    const late = session.query("select outbox_revoke('old', issued_before => '2029-01-01')");
    expect((await failure(late)).code).to.equal(NO_SERIALIZATION);
    session.end();
    expect((await kept('wallet:old')).issued_before).to.deep.equal(new Date(2030, 0, 1));
  });

  for (const [what, values] of [
    ['neither', ''],
    ['both', `sub => 'a', jti => 'b'`],
    ['a line break in the sub', `sub => E'a\nb'`],
    ['a topic for a sub', `sub => 'user:a'`],
    ['a sub that is too long', `sub => repeat('a', 129)`],
    ['an empty jti', `jti => ''`],
    ['a jti that is too long', `jti => repeat('a', 1025)`],
    ['a jti with a time', `jti => 'a', issued_before => now()`],
  ] as const)
    it(`refuses ${what}`, async () => {
      expect((await failure(revoke(values))).code).to.equal(BAD_VALUE);
    });

  it('refuses a time before all times', async () => {
    expect((await failure(revoke("'a', issued_before => '-infinity'"))).code).to.equal('23514');
  });

  it('is forgotten an hour after the last credential has expired, and counted until then', async () => {
    const count = await scalar<number>(pool, 'select outbox_forget_revocations()');
    await revoke("'gone', until => now() - interval '61 minutes'");
    await revoke("'kept', until => now() - interval '59 minutes'");
    expect(await scalar(pool, 'select outbox_forget_revocations()')).to.equal(count + 1);
    expect(await kept('wallet:gone')).to.equal(undefined);
    expect(await kept('wallet:kept')).to.include({ subject: 'kept' });
  });
});
