import { expect } from 'chai';
import { FarHost, farHostMissing } from '../support/far-host.ts';
import { metric } from '../support/metrics.ts';
import { needPrograms } from '../support/programs.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson } from '../support/world.ts';

describe('a client that vanishes without a word, behind a route that is dropped', function () {
  this.timeout(60_000);
  const missing = farHostMissing();
  let stage: Stage;
  let far: FarHost;

  before(async function () {
    if (missing !== undefined) {
      if (process.env.REQUIRE_PROGRAMS !== undefined) throw new Error(missing);
      console.log(`      NOT RUN: ${missing}`);
      this.skip();
    }
    needPrograms(this, 'ip', 'curl');
    far = await FarHost.create();
    stage = await Stage.open({ HOST: '0.0.0.0', DEAD_PEER_RETRIES: '3', HEARTBEAT_SECONDS: '0.3' });
  });
  after(async () => {
    try {
      await stage?.close();
    } finally {
      await far?.remove();
    }
  });

  it('is noticed by what it does not acknowledge, gives its place back, and nobody else is cut off', async () => {
    const { service } = stage;
    const person = await makePerson(stage.pool, 1);
    await stage.settled();
    const port = new URL(service.url).port;
    const near = await (await stage.connect('/v1/events', person.token)).caughtUp();
    await far.follow(`http://${far.here}:${port}/v1/events`, person.token, 'caught-up');
    await waitFor(() => service.hub.subscribers.size === 2, { what: 'both' });
    await far.vanish();
    await waitFor(() => service.hub.subscribers.size === 1, {
      what: 'the far one to be missed',
      timeoutMs: 30_000,
    });
    expect(await metric(service, 'settlewire_dead_peers')).to.equal(1);
    expect(await metric(service, 'settlewire_sockets')).to.equal(1);
    const heartbeats = near.comments.length;
    await waitFor(() => near.comments.length > heartbeats + 2, { what: 'the near one’s heartbeats' });
    expect(near.ended).to.equal(false);
  });
});
