import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { Blockade, untilWaiting } from '../support/blockade.ts';
import { editFunction, type Gate, makeGate } from '../support/gate.ts';
import { column } from '../support/session.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { makeEscrow, makePerson, type Person } from '../support/world.ts';

/** Steps of a connect at which access may change: what has been fixed by then. */
const STEPS = ['before the look-up', 'after its snapshot', 'while it replays', 'live'] as const;
type Step = (typeof STEPS)[number];

describe('access that changes at each step of a connect', () => {
  let stage: Stage;
  let services: Record<'window' | 'database', Service>;
  let owner: Person;
  let me: Person;
  let people = 1;
  let escrow: string;
  let gate: Gate;

  before(async () => {
    stage = await Stage.open();
    services = {
      window: stage.service,
      database: await stage.addService({ REPLAY_WINDOW_EVENTS: '0', REPLAY_PAGE_EVENTS: '20' }),
    };
    owner = await makePerson(stage.pool, 1);
    gate = await makeGate(stage.pool);
    // The last that the look-up does, when its snapshot has been taken; relays have another name and pass.
    await editFunction(
      stage.pool,
      'outbox_oldest',
      /return \(/,
      (found) =>
        `if current_setting('application_name') = 'settlewire' then perform ${gate.wait}; end if; ${found}`,
    );
  });
  after(async () => {
    gate.end();
    await stage.close();
  });
  afterEach(() => stage.closeClients());
  beforeEach(async () => {
    people += 1;
    me = await makePerson(stage.pool, people);
    escrow = await makeEscrow(stage.pool, owner);
    await everywhere();
  });

  const everywhere = async (): Promise<void> => {
    for (const service of Object.values(services)) await stage.settled(service);
  };
  const INVITE = `insert into escrow_parties (escrow_id, user_id, role) values ($1, $2, 'buyer')`;
  const REMOVE = 'delete from escrow_parties where escrow_id = $1 and user_id = $2';
  const topic = (): string => `escrow:${escrow}`;
  const happened = (client: SseClient): number[] =>
    client.events.filter(({ type }) => type === 'test:happened').map(({ id }) => Number(id));

  /** Connects from a cursor and runs the change at a step; the client has all that it will get of the past. */
  async function connectWith(
    step: Step,
    from: number,
    path: string,
    service: Service,
    change: () => Promise<void>,
  ): Promise<SseClient> {
    const connect = () => stage.connect(path, me.token, { 'Last-Event-ID': String(from) }, service);
    if (step === 'before the look-up') {
      const blockade = await Blockade.of(stage.pool, 'outbox_revocations');
      const connecting = connect();
      await blockade.waiting('with known');
      await change();
      await blockade.lift();
      return connecting;
    }
    if (step === 'after its snapshot') {
      await gate.shut();
      const connecting = connect();
      await untilWaiting(stage.pool, 'with known');
      await change();
      await gate.open();
      return connecting;
    }
    const client = await connect();
    if (step === 'while it replays') client.pause();
    else await client.caughtUp();
    await change();
    client.resume();
    return client;
  }

  for (const step of STEPS)
    for (const name of ['window', 'database'] as const) {
      it(`a party that is removed ${step} gets everything before it and nothing after: ${name}`, async () => {
        await stage.pool.query(INVITE, [escrow, me.id]);
        const from = await stage.settled();
        await stage.publish(topic(), 60, 10_000);
        await everywhere();
        const client = await connectWith(step, from, '/v1/events', services[name], async () => {
          await stage.commit(topic());
          await stage.pool.query(REMOVE, [escrow, me.id]);
          await stage.commit(topic(), 3);
          await everywhere();
        });
        await client.message('access:revoked');
        await stage.publish(topic());
        await stage.publish(`user:${me.id}`);
        await everywhere();
        const ids = await column<number>(
          stage.pool,
          `select id from outbox where type = 'test:happened' and id > $1
              and (topic = $3 or topic = $2 and id < (select max(id) from outbox where type = 'access:revoked' and topic = $3))
            order by id`,
          [from, topic(), `user:${me.id}`],
        );
        await client.received(ids.length + 1);
        expect(happened(client)).to.deep.equal(ids);
      });

      it(`a named topic that is lost ${step} ends the stream there, or is refused: ${name}`, async () => {
        await stage.pool.query(INVITE, [escrow, me.id]);
        const from = await stage.settled();
        await stage.publish(topic(), 60, 10_000);
        await everywhere();
        const path = `/v1/events?topic=${topic()}`;
        const client = await connectWith(step, from, path, services[name], async () => {
          await stage.pool.query(REMOVE, [escrow, me.id]);
          await stage.commit(topic(), 3);
          await everywhere();
        });
        await client.untilEnded();
        if (step === 'before the look-up') expect(client.status).to.equal(403);
        else {
          expect(client.messages.at(-1)?.data['reason']).to.equal('access_revoked');
          expect(happened(client)).to.have.length(60);
        }
      });

      it(`a party that is invited ${step} gets nothing from before it and everything after: ${name}`, async () => {
        const from = await stage.settled();
        await stage.publish(topic(), 60, 10_000);
        await stage.publish(`user:${me.id}`, 30, 10_000);
        await everywhere();
        const client = await connectWith(step, from, '/v1/events', services[name], async () => {
          await stage.commit(topic(), 3);
          await stage.pool.query(INVITE, [escrow, me.id]);
          await stage.commit(topic());
          await everywhere();
        });
        await client.message('access:granted');
        await stage.publish(topic());
        await client.received(30 + 1 + 2);
        const ids = await column<number>(
          stage.pool,
          `select id from outbox where type = 'test:happened' and id > $1
              and (topic = $3 or topic = $2 and id > (select max(id) from outbox where type = 'access:granted' and topic = $3))
            order by id`,
          [from, topic(), `user:${me.id}`],
        );
        expect(happened(client)).to.deep.equal(ids);
      });
    }

  it('retention that passes the cursor while access is looked up: it is to come again, and is told then', async () => {
    await stage.publish(`user:${me.id}`, 2);
    const from = stage.cursor - 1;
    await gate.shut();
    const connecting = stage.connect('/v1/events', me.token, { 'Last-Event-ID': String(from) });
    await untilWaiting(stage.pool, 'with known');
    await stage.pool.query('update outbox_meta set dropped_through = $1', [stage.cursor]);
    await gate.open();
    const client = await connecting;
    await client.untilEnded();
    expect(client.messages.map(({ type, data }) => [type, data['reason']])).to.deep.equal([
      ['disconnect', 'unavailable'],
    ]);
    await stage.publish(`user:${me.id}`);
    const back = await stage.connect('/v1/events', me.token, { 'Last-Event-ID': String(from) });
    expect((await back.message('reset')).data['reason']).to.equal('expired');
    await stage.pool.query('update outbox_meta set dropped_through = 0');
  });
});
