import { expect } from 'chai';
import { metric } from '../support/metrics.ts';
import { Stage } from '../support/stage.ts';
import { makePerson } from '../support/world.ts';

describe('a service whose replica for replays is none', () => {
  it('replays from the primary, and counts what was passed over', async () => {
    const stage = await Stage.open();
    try {
      const service = await stage.addService({
        REPLAY_WINDOW_EVENTS: '0',
        REPLAY_DATABASE_URL: stage.database.serviceUrl,
      });
      const person = await makePerson(stage.pool, 1);
      await stage.publish(`user:${person.id}`, 20);
      await stage.settled(service);
      const client = await stage.connect(
        `/v1/events?topic=user:${person.id}`,
        person.token,
        { 'Last-Event-ID': String(stage.cursor - 10) },
        service,
      );
      await client.caughtUp();
      expect(client.ids).to.have.length(10);
      expect(await metric(service, 'settlewire_replica_passed_over')).to.be.at.least(1);
      expect(await metric(service, 'settlewire_replica_pages')).to.equal(0);
    } finally {
      await stage.close();
    }
  });
});
