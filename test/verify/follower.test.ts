import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { expect } from 'chai';
import { Follower, type Received, VerifyError } from '../../src/verify/follower.ts';
import { type Answer, ScriptedServer } from '../support/scripted-server.ts';
import { waitFor } from '../support/wait-for.ts';

const SESSION = 'event: session\nid: 5\ndata: {"cursor":"5"}\n\nevent: caught-up\ndata: {}\n\n';
const JSON_TYPE = { 'Content-Type': 'application/problem+json' };

describe('a follower of an instance', () => {
  let server: ScriptedServer | undefined;
  let events: Received[];

  beforeEach(() => {
    events = [];
  });

  afterEach(async () => {
    await server?.stop();
    server = undefined;
  });

  function make(url: string): Follower {
    return new Follower({
      url,
      token: 'token',
      stayMs: () => 60_000,
      awayMs: () => 0,
      onEvent: (event) => events.push(event),
    });
  }

  async function against(
    answers: readonly Answer[],
  ): Promise<{ server: ScriptedServer; follower: Follower }> {
    server = await ScriptedServer.start(answers);
    return { server, follower: make(server.url) };
  }

  it('goes on from where a reset and a disconnect left it, and takes only marked events', async () => {
    const { server: scripted, follower } = await against([
      {
        body:
          `${SESSION}id: 6\nevent: verify:marked\ndata: {"number":1}\n\ndata: of no type\n\n` +
          'event: reset\ndata: {"cursor":"40"}\n\nevent: disconnect\ndata: {"retryAfterMs":0}\n\n',
      },
      { body: SESSION, ending: 'stay' },
    ]);
    await follower.follow();
    expect((await scripted.request(2)).lastEventId).to.equal('40');
    await follower.stop();
    expect(follower).to.include({ start: 5, resets: 1 });
    expect(events.map(({ id, data }) => [id, data])).to.deep.equal([[6, '{"number":1}']]);
    expect(events[0]?.liveSince).to.be.a('number');
  });

  it('takes a session that comes again for no new stream', async () => {
    const again = 'event: session\ndata: {"cursor":"9"}\n\n';
    const { server: scripted, follower } = await against([
      { body: `${SESSION}id: 6\nevent: verify:marked\ndata: {"number":1}\n\n${again}`, ending: 'cut' },
      { body: `${SESSION}${again}`, ending: 'stay' },
    ]);
    await follower.follow();
    expect((await scripted.request(2)).lastEventId).to.equal('6');
    await waitFor(() => follower.resumes === 1, { what: 'the second stream' });
    await follower.stop();
    expect(follower).to.include({ start: 5, resumes: 1, resets: 0 });
  });

  it('comes back after refusals of the moment, as Retry-After says or after a second', async () => {
    const { server: scripted, follower } = await against([
      { status: 503, headers: { 'Retry-After': '0' } },
      { status: 503, headers: {} },
      { body: SESSION, ending: 'stay' },
    ]);
    await follower.follow();
    await follower.stop();
    const [first, second, third] = scripted.asked.map(({ at }) => at);
    expect((second ?? 0) - (first ?? 0)).to.be.below(900);
    expect((third ?? 0) - (second ?? 0)).to.be.at.least(990);
  });

  it('says why it was refused for good, to whoever waits and to whoever stops it', async () => {
    const body = '{"status":401,"code":"token_expired","detail":"too late"}';
    const { server: scripted, follower } = await against([{ status: 401, headers: JSON_TYPE, body }]);
    const failed = (promise: Promise<void>) => promise.then(String, (error: unknown) => error);
    const error = await failed(follower.follow());
    expect(error).to.be.instanceOf(VerifyError);
    expect((error as Error).message).to.equal(`${scripted.origin} refuses: 401 token_expired: too late`);
    expect(await failed(follower.stop())).to.equal(error);
  });

  it('a refusal that is no JSON is told by its status', async () => {
    const { server: scripted, follower } = await against([{ status: 404, headers: {}, body: '<html>' }]);
    const message = await follower.follow().catch((error: Error) => error.message);
    expect(message).to.equal(`${scripted.origin} refuses: 404 Not Found`);
  });

  it('speaks TLS to an instance whose URL says https', async () => {
    const listener = createServer().listen(0, '127.0.0.1');
    await once(listener, 'listening');
    const follower = make(`https://127.0.0.1:${(listener.address() as AddressInfo).port}/`);
    void follower.follow();
    const [socket] = (await once(listener, 'connection')) as [Socket];
    const [bytes] = (await once(socket, 'data')) as [Buffer];
    await follower.stop();
    listener.close();
    expect(bytes[0], 'the type of a record: handshake').to.equal(22);
    expect(follower.start).to.equal(undefined);
  });
});
