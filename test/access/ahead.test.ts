import { expect } from 'chai';
import { openSession } from '../support/session.ts';
import { Stage } from '../support/stage.ts';
import { makeEscrow, makePerson } from '../support/world.ts';

describe('a cursor beyond what is settled', () => {
  let stage: Stage;

  before(async () => {
    stage = await Stage.open();
  });
  after(() => stage.close());

  for (const ids of [1, 2]) {
    it(`hides no revocation: not of ${ids === 1 ? 'the only topic' : 'one of two topics'}`, async () => {
      const [owner, me] = [await makePerson(stage.pool, ids * 2), await makePerson(stage.pool, ids * 2 + 1)];
      const escrows = [await makeEscrow(stage.pool, owner), await makeEscrow(stage.pool, owner)];
      for (const escrow of escrows)
        await stage.pool.query(
          `insert into escrow_parties (escrow_id, user_id, role) values ($1, $2, 'buyer')`,
          [escrow, me.id],
        );
      await stage.settled();
      const [lost = '', kept = ''] = escrows;

      // The removal has taken its id and is not committed: nobody can see it, and the reader waits for it.
      const remover = await openSession(stage.pool);
      await remover.query('begin');
      await remover.query('delete from escrow_parties where escrow_id = $1 and user_id = $2', [lost, me.id]);
      await remover.query('set constraints all immediate');
      await stage.commit(`escrow:${lost}`);
      const { rows } = await stage.pool.query<{ last: number }>(
        'select last_value as last from outbox_id_seq',
      );
      const ahead = rows[0]?.last ?? 0;
      expect(ahead, 'the hub is behind').to.be.above(stage.cursor);

      const path = `/v1/events?${escrows
        .slice(0, ids)
        .map((escrow) => `topic=escrow:${escrow}`)
        .join('&')}`;
      const client = await stage.connect(path, me.token, { 'Last-Event-ID': String(ahead) });
      await client.caughtUp();
      expect(client.lastEventId).to.equal(String(ahead));
      await remover.query('commit');
      remover.end();
      await stage.publish(`escrow:${lost}`);
      const last = await stage.publish(`escrow:${kept}`);
      if (ids === 1) {
        expect((await client.message('disconnect')).data['reason']).to.equal('access_revoked');
        expect(client.ids).to.deep.equal([]);
      } else {
        await client.received(1);
        expect(client.ids, 'of the topic that is kept').to.deep.equal([last]);
      }
    });
  }
});
