import { expect } from 'chai';
import { Blockade } from '../support/blockade.ts';
import { rawHttp } from '../support/raw-http.ts';
import { Responses } from '../support/responses.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, type Person } from '../support/world.ts';

describe('a stream for an unusual client', () => {
  let stage: Stage;
  let payer: Person;
  let topic: string;
  let past: number;

  before(async () => {
    stage = await Stage.open();
    payer = await makePerson(stage.pool, 1);
    topic = `stream:${await makeStream(stage.pool, payer, payer)}`;
    past = await stage.settled();
    await stage.publish(topic);
  });

  after(() => stage.close());

  it('of HTTP/1.0 is the plain bytes until the end of the connection', async () => {
    const got = await rawHttp(
      stage.service.url,
      `GET /v1/events?topic=${topic} HTTP/1.0\r\nAuthorization: Bearer ${payer.token}\r\n\r\n`,
      /event: caught-up\n.*\n.*\n\n/,
    );
    const [head = '', ...rest] = got.split('\r\n\r\n');
    expect(head).to.match(/^HTTP\/1\.[01] 200 OK/);
    expect(head.toLowerCase()).not.to.contain('transfer-encoding').and.not.to.contain('content-length');
    expect(rest.join('')).to.match(
      /^retry: \d+\nevent: session\ndata: .*\n\nevent: caught-up\ndata: .*\nid: \d+\n\n/,
    );
  });

  it('that asks with HEAD is the head, and nobody is subscribed', async () => {
    for (const path of ['/v1/events', `/v1/events?topic=${topic}`, `/v1/streams/${topic.slice(7)}/events`]) {
      const answer = await stage.send('HEAD', path, {
        Authorization: `Bearer ${payer.token}`,
        'Last-Event-ID': String(past),
      });
      expect(answer.status).to.equal(200);
      expect(answer.headers).to.include({
        'content-type': 'text/event-stream; charset=utf-8',
        'last-event-id': String(past),
      });
      expect(answer.body).to.equal('');
    }
    expect((await stage.send('HEAD', '/v1/events')).status).to.equal(401);
    expect(stage.service.hub.subscribers.size).to.equal(0);
  });

  it('that takes any type, or several, is a stream', async () => {
    for (const Accept of [
      '*/*',
      'text/*',
      'text/html, */*;q=0.1',
      'TEXT/EVENT-STREAM',
      '',
      ' ',
      'text/event-stream; charset=utf-8',
      'text/event-stream;charset="UTF-8";q=0.5',
      'text/event-stream;q=2',
      'text/event-stream;q=0, text/event-stream',
    ]) {
      const client = await stage.connect('/v1/events', payer.token, { Accept });
      expect(client.status, Accept).to.equal(200);
      client.close();
    }
  });

  it('that goes away while its access is looked up leaves nothing behind', async () => {
    stage.closeClients();
    const responses = new Responses();
    const gone = new AbortController();
    const blockade = await Blockade.of(stage.pool, 'users');
    const connecting = fetch(`${stage.service.url}/v1/events`, {
      headers: { Authorization: `Bearer ${payer.token}` },
      signal: gone.signal,
    }).catch((error: Error) => error.name);
    await blockade.waiting('with known');
    gone.abort();
    expect(await connecting).to.equal('AbortError');
    await waitFor(() => responses.open === 0, { what: 'the service to see it go' });
    responses.stop();
    await blockade.lift();
    const client = await (await stage.connect('/v1/events', payer.token)).caughtUp();
    expect(stage.service.hub.subscribers.size).to.equal(1);
    client.close();
    await waitFor(() => stage.service.hub.subscribers.size === 0, { what: 'an empty hub' });
  });
});
