import { expect } from 'chai';
import { Stage } from '../support/stage.ts';
import { mintToken } from '../support/tokens.ts';
import { makeEscrow, makePerson, makeStream, type Person } from '../support/world.ts';

describe('access, attacked', () => {
  let stage: Stage;
  let people = 0;

  before(async () => {
    stage = await Stage.open();
  });
  after(() => stage.close());
  afterEach(() => stage.closeClients());

  const person = (role?: string): Promise<Person> => {
    people += 1;
    return makePerson(stage.pool, people, role);
  };
  const types = (events: readonly { type: string }[]): string[] => events.map(({ type }) => type);

  it('an administrator keeps a named topic that they lose as a party', async () => {
    const [admin, owner] = [await person('ADMIN'), await person()];
    const escrow = await makeEscrow(stage.pool, owner);
    const add = `insert into escrow_parties (escrow_id, user_id, role) values ($1, $2, 'arbitrator')`;
    await stage.pool.query(add, [escrow, admin.id]);
    const from = await stage.settled();
    const path = `/v1/events?topic=escrow:${escrow}`;
    const live = await (await stage.connect(path, admin.token)).caughtUp();
    await stage.pool.query('delete from escrow_parties where escrow_id = $1', [escrow]);
    await stage.publish(`escrow:${escrow}`);
    const back = await stage.connect(path, admin.token, { 'Last-Event-ID': String(from) });
    await back.caughtUp();
    expect(types(back.events)).to.deep.equal(['test:happened']);
    await live.received(1);
    expect(types(live.events)).to.deep.equal(['test:happened']);
    expect(live.ended).to.equal(false);
  });

  it('a token that names the wallet of a user that is gone does not speak for it once it is another user’s', async () => {
    const [gone, heir, other] = [await person(), await person(), await person()];
    await stage.pool.query('delete from users where id = $1', [gone.id]);
    await stage.pool.query('update users set wallet_address = $2 where id = $1', [heir.id, gone.wallet]);
    const stream = await makeStream(stage.pool, gone, other);
    await stage.settled();
    const unknown = '99999999-0000-4000-8000-000000000000';
    const token = mintToken({ sub: unknown, walletAddress: gone.wallet });
    expect((await stage.connect(`/v1/events?topic=stream:${stream}`, token)).status).to.equal(403);
  });
});
