import { expect } from 'chai';
import { Stage } from '../support/stage.ts';
import { makePerson } from '../support/world.ts';

describe('a subscriber buffer of an odd number of bytes', () => {
  let stage: Stage;
  before(async () => {
    stage = await Stage.open({ SUBSCRIBER_BUFFER_BYTES: '16385', REPLAY_WINDOW_EVENTS: '0' });
  });
  after(() => stage.close());

  it('is replayed from the database like any other', async () => {
    const person = await makePerson(stage.pool, 1);
    const from = await stage.settled();
    await stage.publish(`user:${person.id}`, 5);
    const client = await stage.connect(`/v1/events?lastEventId=${from}`, person.token);
    await client.caughtUp();
    expect(client.events).to.have.length(5);
  });
});
