import { expect } from 'chai';
import { rawHttp } from '../support/raw-http.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

describe('a service that drains', () => {
  let stage: Stage;
  let person: Person;

  before(async () => {
    // The one subscriber is sent away at the end of the second.
    stage = await Stage.open({ DRAIN_SECONDS: '1' }, { random: () => 0.99 });
    person = await makePerson(stage.pool, 1);
    await stage.settled();
  });

  after(() => stage.close());

  it('answers HEAD as it would GET, without a body', async () => {
    await (await stage.connect('/v1/events', person.token)).caughtUp();
    const stopped = stage.service.stop();
    await waitFor(() => stage.service.condition === 'draining', { what: 'the service to drain' });
    const head = async (accept: string) =>
      rawHttp(
        stage.service.url,
        `HEAD /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept: ${accept}\r\nAuthorization: Bearer ${person.token}\r\n\r\n`,
      );
    const stream = await head('text/event-stream');
    expect(stream)
      .to.match(/^HTTP\/1\.1 200 OK\r\n/)
      .and.to.match(/content-type: text\/event-stream/i);
    expect(stream.endsWith('\r\n\r\n'), 'nothing after the head').to.equal(true);
    const other = await head('*/*');
    expect(other)
      .to.match(/^HTTP\/1\.1 503 /)
      .and.to.match(/retry-after: \d/i);
    expect(other.endsWith('\r\n\r\n'), 'nothing after the head').to.equal(true);
    await stopped;
  });
});
