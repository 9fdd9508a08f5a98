import { connect, type Socket } from 'node:net';
import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

/** Sends so many requests for a stream over one connection, without waiting for an answer (RFC 9112, section 9.3.2). */
function pipeline({ url }: Service, { token }: Person, count: number): Socket {
  const { hostname, port } = new URL(url);
  const request = `GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nAccept: text/event-stream\r\n\r\n`;
  const socket = connect(Number(port), hostname, () => socket.write(request.repeat(count)));
  socket.on('error', () => {});
  return socket;
}

describe('streams asked for in a row over one connection', () => {
  let stage: Stage;
  let person: Person;

  before(async () => {
    stage = await Stage.open({ MAX_CONNECTIONS_PER_ACTOR: '3' });
    person = await makePerson(stage.pool, 1);
    await stage.settled();
  });
  after(() => stage.close());

  it('leave nothing behind when that is cut: no subscriber in the hub, no place taken', async () => {
    const { hub } = stage.service;
    const socket = pipeline(stage.service, person, 3);
    await waitFor(() => hub.subscribers.size > 0, { what: 'a subscriber' });
    // A request of another kind is answered after those before it on its own connection were looked up.
    await stage.send('GET', '/v1/snapshot', { Authorization: `Bearer ${person.token}` });
    socket.destroy();
    await waitFor(() => hub.subscribers.size === 0, { what: 'the hub to be empty' });
    for (let place = 0; place < 3; place += 1) {
      const client = await (await stage.connect('/v1/events', person.token)).caughtUp();
      expect(client.status).to.equal(200);
    }
  });
});
