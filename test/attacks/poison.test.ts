import { expect } from 'chai';
import { Stage } from '../support/stage.ts';
import { makePerson, type Person } from '../support/world.ts';

describe('an access event that nobody can read', () => {
  let stage: Stage;
  let person: Person;
  let other: Person;
  before(async () => {
    stage = await Stage.open();
    person = await makePerson(stage.pool, 1);
    other = await makePerson(stage.pool, 2);
    await stage.settled();
  });
  after(() => stage.close());
  afterEach(() => stage.closeClients());

  const unreadable = [
    'null',
    '"text"',
    '[]',
    '{}',
    '{"topic":null}',
    '{"topic":7}',
    '{"oversize":true,"bytes":20000}',
  ];
  for (const data of [...unreadable, '{"topic":"\\u0000"}']) {
    it(`stops nobody else, ends the session that it is about, and lets it take the state again: ${data}`, async () => {
      const from = stage.cursor;
      const mine = await (await stage.connect('/v1/events', person.token)).caughtUp();
      const theirs = await (await stage.connect('/v1/events', other.token)).caughtUp();
      await stage.pool.query(`select outbox_append($1, 'access:revoked', $2)`, [`user:${person.id}`, data]);
      await stage.publish(`user:${person.id}`);
      await stage.publish(`user:${other.id}`);
      await theirs.received(1);
      expect(theirs.ended).to.equal(false);
      if (unreadable.includes(data)) {
        await mine.untilEnded();
        expect(mine.messages.at(-1)?.data['reason']).to.equal('session_revoked');
      }
      const back = await stage.connect('/v1/events', person.token, { 'Last-Event-ID': String(from) });
      await back.caughtUp();
      if (unreadable.includes(data)) {
        expect((await back.message('reset')).data).to.include({ reason: 'identity', requested: from });
      } else expect(back.events.at(-1)?.type).to.equal('test:happened');
      expect(back.ended).to.equal(false);
    });
  }
});
