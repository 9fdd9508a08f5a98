import { expect } from 'chai';
import { show } from '../../src/cli/show.ts';
import { plain } from '../../src/cli/terminal.ts';
import type { Item } from '../../src/tail/connection.ts';
import { type Outcome, tail } from '../../src/tail/tail.ts';
import { type Answer, ScriptedServer } from '../support/scripted-server.ts';
import { failure } from '../support/session.ts';

const SESSION = 'retry: 40\nevent: session\ndata: {"cursor":7,"topics":["a:b"],"heartbeatSeconds":0.04}\n\n';
const event = (id: number): string => `event: test:event\ndata: {"n":${id}}\nid: ${id}\n\n`;
const CAUGHT_UP = 'event: caught-up\ndata: {"cursor":9}\nid: 9\n\n';
const REFUSED = 'retry: 30\nevent: disconnect\ndata: {"reason":"draining","retryAfterMs":30}\n\n';

interface Followed {
  readonly outcome: Outcome;
  readonly ids: number[];
  readonly heartbeats: number;
  readonly notes: string[];
  readonly pauses: number[];
  /** The cursors that the server was asked to go on from. */
  readonly asked: (string | undefined)[];
}

describe('the connections of settlewire tail', () => {
  let server: ScriptedServer | undefined;

  afterEach(() => server?.stop());

  async function follow(
    answers: readonly Answer[],
    options: { count?: number; cursor?: string } = {},
  ): Promise<Followed> {
    const scripted = await ScriptedServer.start(answers);
    server = scripted;
    const items: Item[] = [];
    const notes: string[] = [];
    const pauses: number[] = [];
    const outcome = await tail({
      url: scripted.url,
      token: 't',
      cursor: options.cursor,
      untilCaughtUp: options.count === undefined,
      count: options.count ?? Number.POSITIVE_INFINITY,
      patienceMs: 60_000,
      take: async (more) => void items.push(...more),
      note: (text) => notes.push(text),
      random: () => 0.5,
      pause: async (ms) => void pauses.push(ms),
    });
    return {
      outcome,
      notes,
      pauses,
      ids: items.flatMap((item) =>
        item !== 'heartbeat' && item.type.includes(':') ? [Number(item.id)] : [],
      ),
      heartbeats: items.filter((item) => item === 'heartbeat').length,
      asked: scripted.asked.map(({ lastEventId }) => lastEventId),
    };
  }

  it('a stream that is cut inside a block: the block comes again, and counts once', async () => {
    const { ids, asked, notes } = await follow([
      { body: `${SESSION}${event(8)}${event(9).slice(0, -1)}`, ending: 'cut' },
      { body: `${SESSION}${event(9)}${CAUGHT_UP}`, ending: 'stay' },
    ]);
    expect(ids).to.deep.equal([8, 9]);
    expect(asked).to.deep.equal([undefined, '8']);
    expect(notes[1]).to.equal('the connection ended; coming back in 0.0 s');
  });

  it('goes on from the cursor of the session if it was cut before any id', async () => {
    const { asked } = await follow([
      { body: SESSION, ending: 'cut' },
      { body: `${SESSION}${CAUGHT_UP}`, ending: 'stay' },
    ]);
    expect(asked).to.deep.equal([undefined, '7']);
  });

  it('does not show twice what a server repeats, and a session that comes again is no new connection', async () => {
    const { ids, notes, heartbeats } = await follow([
      { body: `${SESSION}${event(8)}:\n\n${SESSION}`, ending: 'end' },
      { body: `${SESSION}${event(8)}${event(9)}${CAUGHT_UP}`, ending: 'stay' },
    ]);
    expect(ids).to.deep.equal([8, 9]);
    expect(heartbeats).to.equal(1);
    expect(notes.filter((note) => note.startsWith('connected'))).to.have.length(2);
  });

  it('waits as long as it is told: by retry, by Retry-After, and longer each time it fails', async () => {
    const { pauses, notes } = await follow([
      { body: `${SESSION}${REFUSED}` },
      { body: REFUSED },
      { status: 503, headers: { 'Retry-After': '3' }, body: 'no' },
      {
        status: 429,
        headers: { 'Content-Type': 'application/problem+json' },
        body: '{"code":"rate_limited","detail":"wait"}',
      },
      { body: `${SESSION}${CAUGHT_UP}`, ending: 'stay' },
    ]);
    // Half the jitter's range: 1, then 2 × 0.75, 4 × 0.75, 8 × 0.75 of the server's 30 ms.
    expect(pauses).to.deep.equal([30, 45, 3000, 180]);
    expect(notes.slice(1, 5)).to.deep.equal([
      'sent away: draining; coming back in 0.0 s',
      'sent away: draining; coming back in 0.0 s',
      '503 Service Unavailable; coming back in 3.0 s',
      '429 rate_limited: wait; coming back in 0.2 s',
    ]);
  });

  it('a connection on which nothing comes any more, not even heartbeats, is made again', async () => {
    const { ids, asked } = await follow([
      { body: `${SESSION}${event(8)}`, ending: 'stay' },
      { body: `${SESSION}${event(9)}${CAUGHT_UP}`, ending: 'stay' },
    ]);
    expect(ids).to.deep.equal([8, 9]);
    expect(asked).to.deep.equal([undefined, '8']);
  });

  it('after a reset it goes on from the new cursor, also if that is lower', async () => {
    const reset = 'event: reset\ndata: {"reason":"epoch","requested":500,"oldest":0,"cursor":8}\n\n';
    const { ids, outcome, asked } = await follow(
      [
        { body: `${SESSION}${reset}`, ending: 'cut' },
        { body: `${SESSION}${event(9)}`, ending: 'stay' },
      ],
      { count: 1, cursor: '500' },
    );
    expect(ids).to.deep.equal([9]);
    expect(asked).to.deep.equal(['500', '8']);
    expect([outcome.events, outcome.resets]).to.deep.equal([1, 1]);
  });

  it('hands on no more than was asked for, though more has come', async () => {
    const { ids, outcome } = await follow([{ body: `${SESSION}${event(8)}${event(9)}${event(10)}` }], {
      count: 2,
    });
    expect(ids).to.deep.equal([8, 9]);
    expect(outcome.events).to.equal(2);
  });

  it('what is no event stream, and what is refused for good, is not asked again', async () => {
    const cases: [Answer, RegExp][] = [
      [{ headers: { 'Content-Type': 'text/html' }, body: '<p>' }, /^refused: .* is no settlewire/],
      [{ status: 404, body: '' }, /^refused: 404 Not Found$/],
      [
        { status: 401, body: '{"code":"token_expired","detail":"late"}' },
        /^refused: 401 token_expired: late$/,
      ],
    ];
    for (const [answer, expected] of cases) {
      expect((await failure(follow([answer]))).message).to.match(expected);
      expect(server?.asked).to.have.length(1);
      await server?.stop();
      server = undefined;
    }
  });

  describe('shown', () => {
    const item = (data: string): Item => ({ type: 'test:event', data, id: '8', retryMs: undefined });

    it('in columns: fields by name, in quotes where a blank would mislead, controls as escapes', () => {
      const shown = (data: string) =>
        show(item(data), 'pretty', plain).replace('       8  test:event                ', '');
      expect(shown('{"a":"b","c":"d e","n":null,"x":[1,{"y":"z"}]}')).to.equal(
        'a=b c="d e" n=null x=[1,{"y":"z"}]\n',
      );
      expect(shown('{"a":"","b":"\\u009b31m","c":"x=y","\\u202e":1}')).to.equal(
        'a="" b="\\u{9b}31m" c="x=y" \\u{202e}=1\n',
      );
      expect(shown('[1, 2]')).to.equal('[1, 2]\n');
      expect(shown('"text"')).to.equal('"text"\n');
    });

    it('control messages and heartbeats only where everything is shown', () => {
      const control: Item = { type: 'caught-up', data: '{"cursor":9}', id: '9', retryMs: 40 };
      expect([
        show(control, 'pretty', plain),
        show(control, 'json', plain),
        show('heartbeat', 'json', plain),
      ]).to.deep.equal(['', '', '']);
      expect(show(control, 'raw', plain)).to.equal(
        'retry: 40\nevent: caught-up\ndata: {"cursor":9}\nid: 9\n\n',
      );
      expect(show('heartbeat', 'raw', plain)).to.equal(':\n');
    });
  });
});
