import { expect } from 'chai';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  accessLines,
  appendedBy,
  insert,
  inTransaction,
  newEscrow,
  newParty,
  newStream,
  newUser,
  type Queryable,
  update,
} from './fixtures.ts';

describe('access events', () => {
  let database: TestDatabase;
  let pool: TestDatabase['pool'];
  let jane: string;
  let otto: string;
  before(async () => {
    database = await createTestDatabase();
    pool = database.pool;
  });
  after(() => database.drop());
  beforeEach(async () => {
    jane = await newUser(pool);
    otto = await newUser(pool);
  });

  const access = async (work: () => Promise<unknown>) => accessLines(await appendedBy(pool, work));
  const remove = (db: Queryable, table: string, id: string) =>
    db.query(`delete from ${table} where id = $1`, [id]);

  describe('of an escrow', () => {
    it('its creator gains it, and loses it when it is deleted', async () => {
      let id = '';
      const gained = await access(async () => {
        id = await newEscrow(pool, { creator_id: jane });
      });
      expect(gained).to.deep.equal([`granted escrow:${id} on user:${jane}`]);
      expect(await access(() => remove(pool, 'escrows', id))).to.deep.equal([
        `revoked escrow:${id} on user:${jane}`,
      ]);
    });

    it('a new creator gains it and the old one loses it', async () => {
      const id = await newEscrow(pool, { creator_id: jane });
      expect(await access(() => update(pool, 'escrows', id, { creator_id: otto }))).to.deep.equal([
        `revoked escrow:${id} on user:${jane}`,
        `granted escrow:${id} on user:${otto}`,
      ]);
    });

    it('a party gains it when invited and loses it when removed', async () => {
      const id = await newEscrow(pool, { creator_id: jane });
      let party = '';
      const gained = await access(async () => {
        party = await newParty(pool, id, otto);
      });
      expect(gained).to.deep.equal([`granted escrow:${id} on user:${otto}`]);
      expect(await access(() => update(pool, 'escrow_parties', party, { status: 'accepted' }))).to.deep.equal(
        [],
      );
      expect(await access(() => remove(pool, 'escrow_parties', party))).to.deep.equal([
        `revoked escrow:${id} on user:${otto}`,
      ]);
    });

    it('a party loses it by rejecting and gains it by accepting after all', async () => {
      const id = await newEscrow(pool, { creator_id: jane });
      const party = await newParty(pool, id, otto);
      expect(await access(() => update(pool, 'escrow_parties', party, { status: 'rejected' }))).to.deep.equal(
        [`revoked escrow:${id} on user:${otto}`],
      );
      expect(
        await access(() => update(pool, 'escrow_parties', party, { responded_at: new Date() })),
      ).to.deep.equal([]);
      expect(await access(() => update(pool, 'escrow_parties', party, { status: 'accepted' }))).to.deep.equal(
        [`granted escrow:${id} on user:${otto}`],
      );
    });

    it('a party recorded as rejected neither gains nor, when removed, loses it', async () => {
      const id = await newEscrow(pool, { creator_id: jane });
      const events = await access(async () => {
        await remove(pool, 'escrow_parties', await newParty(pool, id, otto, { status: 'rejected' }));
      });
      expect(events).to.deep.equal([]);
    });

    it('second grounds are not announced; only the last one lost is', async () => {
      const id = await newEscrow(pool, { creator_id: jane });
      const grounds: string[] = [];
      const added = await access(async () => {
        grounds.push(await newParty(pool, id, jane, { role: 'buyer' }));
        grounds.push(await newParty(pool, id, jane, { role: 'seller' }));
      });
      expect(added).to.deep.equal([]);
      const [buyer = '', seller = ''] = grounds;
      expect(await access(() => remove(pool, 'escrow_parties', buyer))).to.deep.equal([]);
      expect(await access(() => update(pool, 'escrows', id, { creator_id: otto }))).to.deep.equal([
        `granted escrow:${id} on user:${otto}`,
      ]);
      expect(
        await access(() => update(pool, 'escrow_parties', seller, { status: 'rejected' })),
      ).to.deep.equal([`revoked escrow:${id} on user:${jane}`]);
    });

    it('a party row given to another person, or moved to another escrow, counts for both sides', async () => {
      const one = await newEscrow(pool);
      const two = await newEscrow(pool);
      const party = await newParty(pool, one, jane);
      expect(await access(() => update(pool, 'escrow_parties', party, { user_id: otto }))).to.deep.equal([
        `revoked escrow:${one} on user:${jane}`,
        `granted escrow:${one} on user:${otto}`,
      ]);
      expect(await access(() => update(pool, 'escrow_parties', party, { escrow_id: two }))).to.deep.equal([
        `revoked escrow:${one} on user:${otto}`,
        `granted escrow:${two} on user:${otto}`,
      ]);
    });

    it('deleting it takes it from everybody, once each', async () => {
      const id = await newEscrow(pool, { creator_id: jane });
      await newParty(pool, id, jane);
      await newParty(pool, id, otto, { role: 'seller' });
      await newParty(pool, id, otto, { role: 'arbitrator' });
      const lost = await access(() => remove(pool, 'escrows', id));
      expect(lost.sort()).to.deep.equal(
        [`revoked escrow:${id} on user:${jane}`, `revoked escrow:${id} on user:${otto}`].sort(),
      );
    });

    it('a transaction that takes one ground and gives another, or undoes itself, announces nothing', async () => {
      const id = await newEscrow(pool);
      const party = await newParty(pool, id, jane);
      const swapped = await access(() =>
        inTransaction(pool, async (client) => {
          await remove(client, 'escrow_parties', party);
          await newParty(client, id, jane, { role: 'seller' });
          await remove(client, 'escrow_parties', await newParty(client, id, otto));
        }),
      );
      expect(swapped).to.deep.equal([]);
    });

    it('who loses it by a change does not get that change, who gains it does', async () => {
      const id = await newEscrow(pool, { creator_id: jane });
      const events = await appendedBy(pool, () =>
        update(pool, 'escrows', id, { creator_id: otto, status: 'active' }),
      );
      expect(events.map(({ type }) => type)).to.deep.equal([
        'access:revoked',
        'access:granted',
        'escrow:status_changed',
      ]);
    });

    it("grounds that were loaded behind the triggers' back are still revoked", async () => {
      const id = await newEscrow(pool);
      const party = await newParty(pool, id, jane);
      await pool.query('delete from escrow_access where escrow_id = $1', [id]);
      expect(await access(() => remove(pool, 'escrow_parties', party))).to.deep.equal([
        `revoked escrow:${id} on user:${jane}`,
      ]);
    });
  });

  describe('of a stream', () => {
    it('payer and recipient gain it, whether or not they are users, and lose it with it', async () => {
      let id = '';
      const payer = `0x${'C'.repeat(40)}`;
      const gained = await access(async () => {
        id = await newStream(pool, { payer, recipient: 'bob' });
      });
      const wallets = [`wallet:${payer.toLowerCase()}`, 'wallet:bob'];
      expect(gained).to.deep.equal(wallets.map((wallet) => `granted stream:${id} on ${wallet}`));
      expect(await access(() => remove(pool, 'streams', id))).to.deep.equal(
        wallets.map((wallet) => `revoked stream:${id} on ${wallet}`),
      );
    });

    it('a change of payer or recipient moves it', async () => {
      const id = await newStream(pool, { payer: 'ann', recipient: 'bob' });
      expect(await access(() => update(pool, 'streams', id, { payer: 'cat' }))).to.deep.equal([
        `revoked stream:${id} on wallet:ann`,
        `granted stream:${id} on wallet:cat`,
      ]);
      expect(
        await access(() => update(pool, 'streams', id, { payer: 'bob', recipient: 'cat' })),
      ).to.deep.equal([]);
      expect(await access(() => update(pool, 'streams', id, { status: 'paused' }))).to.deep.equal([]);
    });

    it('moves as well in the statement that settles it', async () => {
      const id = await newStream(pool, { payer: 'ann', recipient: 'bob' });
      const settle = (changes: Record<string, string>, at: string) =>
        access(() => update(pool, 'streams', id, { ...changes, last_settled_at: at }));
      expect(await settle({}, '2030-01-01')).to.deep.equal([]);
      expect(await settle({ payer: 'cat' }, '2030-01-02')).to.deep.equal([
        `revoked stream:${id} on wallet:ann`,
        `granted stream:${id} on wallet:cat`,
      ]);
      expect(await settle({ recipient: 'dan' }, '2030-01-03')).to.deep.equal([
        `revoked stream:${id} on wallet:bob`,
        `granted stream:${id} on wallet:dan`,
      ]);
      const moved = '00000000-0000-4000-8000-00000000000e';
      expect(await settle({ id: moved }, '2030-01-04')).to.have.length(4);
    });

    it('a stream of another id is another stream', async () => {
      const id = await newStream(pool, { payer: 'ann', recipient: 'bob' });
      const moved = '00000000-0000-4000-8000-00000000000f';
      expect(await access(() => update(pool, 'streams', id, { id: moved }))).to.deep.equal([
        `revoked stream:${id} on wallet:ann`,
        `revoked stream:${id} on wallet:bob`,
        `granted stream:${moved} on wallet:ann`,
        `granted stream:${moved} on wallet:bob`,
      ]);
    });

    it('one wallet on both ends is told once, and loses it with the last end', async () => {
      let id = '';
      const gained = await access(async () => {
        id = await newStream(pool, { payer: 'ann', recipient: 'ann' });
      });
      expect(gained).to.deep.equal([`granted stream:${id} on wallet:ann`]);
      expect(await access(() => update(pool, 'streams', id, { payer: 'bob' }))).to.deep.equal([
        `granted stream:${id} on wallet:bob`,
      ]);
      expect(await access(() => update(pool, 'streams', id, { recipient: 'bob' }))).to.deep.equal([
        `revoked stream:${id} on wallet:ann`,
      ]);
    });

    it('another spelling of the same wallet is no change', async () => {
      const id = await newStream(pool, { payer: `0x${'d'.repeat(40)}` });
      expect(await access(() => update(pool, 'streams', id, { payer: `0x${'D'.repeat(40)}` }))).to.deep.equal(
        [],
      );
    });
  });

  describe('whatever statement makes the change', () => {
    it('ON CONFLICT DO UPDATE', async () => {
      const id = await newEscrow(pool);
      const upsert = (status: string) =>
        pool.query(
          `insert into escrow_parties (escrow_id, user_id, role, status) values ($1, $2, 'buyer', $3)
           on conflict (escrow_id, user_id, role) do update set status = excluded.status`,
          [id, jane, status],
        );
      expect(await access(() => upsert('pending'))).to.deep.equal([`granted escrow:${id} on user:${jane}`]);
      expect(await access(() => upsert('accepted'))).to.deep.equal([]);
      expect(await access(() => upsert('rejected'))).to.deep.equal([`revoked escrow:${id} on user:${jane}`]);
    });

    it('MERGE, with all that it can do in one', async () => {
      const id = await newEscrow(pool);
      await newParty(pool, id, jane, { role: 'buyer' });
      const mary = await newUser(pool);
      await newParty(pool, id, mary, { role: 'seller' });
      const merge = () =>
        pool.query(
          `merge into escrow_parties p
           using (values ($1::uuid, $2::uuid, 'buyer', 'gone'), ($1, $3, 'seller', 'rejected'), ($1, $4, 'arbitrator', 'pending')) s(escrow, person, role, status)
              on p.escrow_id = s.escrow and p.user_id = s.person and p.role = s.role
            when matched and s.status = 'gone' then delete
            when matched then update set status = s.status
            when not matched then insert (escrow_id, user_id, role) values (s.escrow, s.person, s.role)`,
          [id, jane, mary, otto],
        );
      expect((await access(merge)).toSorted()).to.deep.equal(
        [
          `granted escrow:${id} on user:${otto}`,
          `revoked escrow:${id} on user:${jane}`,
          `revoked escrow:${id} on user:${mary}`,
        ].toSorted(),
      );
    });

    it('a cascade, and an update by way of a view', async () => {
      const id = await newEscrow(pool, { creator_id: otto });
      await newParty(pool, id, jane);
      await pool.query(`create view my_parties as select * from escrow_parties where status <> 'rejected'`);
      const reject = () => pool.query(`update my_parties set status = 'rejected' where escrow_id = $1`, [id]);
      expect(await access(reject)).to.deep.equal([`revoked escrow:${id} on user:${jane}`]);
      expect(await access(() => remove(pool, 'escrows', id))).to.deep.equal([
        `revoked escrow:${id} on user:${otto}`,
      ]);
    });
  });

  describe('of a user', () => {
    const ended = (id: string, ...wallets: string[]) =>
      [`user:${id}`, ...wallets.map((wallet) => `wallet:${wallet}`)].map(
        (on) => `revoked user:${id} on ${on}`,
      );
    const worthless = (...topics: string[]) => topics.map((on) => `credentials_revoked on ${on}`);

    it('a new user ends the sessions of tokens that spoke for the id or the wallet before', async () => {
      let id = '';
      const lines = await access(async () => {
        id = await insert(pool, 'users', { wallet_address: 'w-0' });
      });
      expect(lines).to.deep.equal(ended(id, 'w-0'));
    });

    it('a change of role, activity or wallet ends the sessions, also those of the wallets', async () => {
      const id = await newUser(pool, { wallet_address: 'w-1' });
      expect(await access(() => update(pool, 'users', id, { role: 'ADMIN' }))).to.deep.equal(
        ended(id, 'w-1'),
      );
      expect(await access(() => update(pool, 'users', id, { is_active: false }))).to.deep.equal(
        ended(id, 'w-1'),
      );
      expect(await access(() => update(pool, 'users', id, { wallet_address: 'w-2' }))).to.deep.equal([
        ...ended(id, 'w-1', 'w-2'),
        ...worthless('wallet:w-1'),
      ]);
      expect(await access(() => update(pool, 'users', id, { wallet_address: null }))).to.deep.equal([
        ...ended(id, 'w-2'),
        ...worthless('wallet:w-2'),
      ]);
      expect(
        await access(() => update(pool, 'users', id, { role: 'ADMIN', is_active: false })),
      ).to.deep.equal([]);
    });

    it('a deleted user has no sessions, and no tokens that count', async () => {
      const id = await insert(pool, 'users', { wallet_address: 'w-3' });
      expect(await access(() => remove(pool, 'users', id))).to.deep.equal([
        ...ended(id, 'w-3'),
        ...worthless(`user:${id}`, 'wallet:w-3'),
      ]);
    });
  });
});
