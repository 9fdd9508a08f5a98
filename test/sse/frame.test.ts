import { expect } from 'chai';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import fc from 'fast-check';
import { Chunk } from '../../src/sse/chunk.ts';
import {
  caughtUpFrame,
  cursorFrame,
  disconnectFrame,
  encodeEvent,
  encodePage,
  type Frame,
  HEARTBEAT,
  resetFrame,
  sessionFrame,
} from '../../src/sse/frame.ts';

interface Read {
  readonly messages: EventSourceMessage[];
  readonly retries: number[];
}

/** What a client reads when the bytes arrive cut into pieces. */
function read(bytes: Buffer, cuts: readonly number[] = []): Read {
  const messages: EventSourceMessage[] = [];
  const retries: number[] = [];
  const parser = createParser({
    onEvent: (message) => messages.push(message),
    onRetry: (retry) => retries.push(retry),
    onError: (error) => {
      throw error;
    },
  });
  const decoder = new TextDecoder();
  const borders = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  for (const [index, from] of borders.entries())
    parser.feed(decoder.decode(bytes.subarray(from, borders[index + 1] ?? from), { stream: true }));
  return { messages, retries };
}

// What the outbox's CHECKs let in: any JSON text without CR and LF, a type and a topic of their grammars.
const events = fc.record({
  id: fc.integer({ min: 1, max: 2 ** 48 - 1 }),
  topic: fc.stringMatching(/^[a-z]{1,8}:[A-Za-z0-9_.-]{1,40}$/),
  type: fc.stringMatching(/^[a-z]{1,12}:[a-z_]{1,20}$/).filter((type) => !type.startsWith('access:')),
  data: fc.oneof(
    fc.json({ stringUnit: 'binary' }),
    fc.string({ unit: 'binary' }).map((text) => JSON.stringify({ text, u: '\u2028\u2029\u0085\ufeff' })),
    fc.json().map((text) => ` ${text} `),
  ),
});

describe('frames', () => {
  it('are read back as exactly the events that went in, wherever the stream is cut', () => {
    fc.assert(
      fc.property(fc.array(events, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 6 }), (sent, cuts) => {
        const bytes = Buffer.concat(
          sent.flatMap((event) => [encodeEvent(event).chunk.bytes, HEARTBEAT.bytes]),
        );
        expect(read(bytes, cuts).messages).to.deep.equal(
          sent.map(({ id, type, data }) => ({ id: String(id), event: type, data })),
        );
      }),
    );
  });

  it('of a page are those that each of its events would have alone', () => {
    const page = fc.array(
      events.chain((event) =>
        fc.constantFrom(event, {
          ...event,
          type: 'access:granted',
          data: JSON.stringify({ topic: event.topic }),
        }),
      ),
      { maxLength: 8 },
    );
    fc.assert(
      fc.property(page, (sent) => {
        const plain = ({ id, topic, chunk, access }: Frame) => ({ id, topic, access, bytes: chunk.framed });
        expect(encodePage(sent).map(plain)).to.deep.equal(sent.map(encodeEvent).map(plain));
      }),
    );
  });

  it('of control carry one line of JSON each, and id only where it is a place in the order', () => {
    const at = 42;
    const session = {
      cursor: at,
      epoch: 'e',
      topics: ['a\nid: 1'],
      heartbeatSeconds: 1,
      resumeToken: 'r\n',
      resumeExpiresAt: 'y\n',
      expiresAt: 'x\r\n',
    };
    const reset = { reason: 'ahead', requested: null, oldest: 1, cursor: at } as const;
    const { messages, retries } = read(
      Chunk.join([
        sessionFrame(session, 10),
        resetFrame(reset),
        caughtUpFrame(at),
        cursorFrame(at),
        disconnectFrame('draining', 20),
      ]).bytes,
    );
    expect(messages.map(({ event, id, data }) => [event, id, JSON.parse(data)])).to.deep.equal([
      ['session', undefined, session],
      ['reset', undefined, reset],
      ['caught-up', '42', { cursor: at }],
      ['cursor', '42', { cursor: at }],
      ['disconnect', undefined, { reason: 'draining', retryAfterMs: 20 }],
    ]);
    expect(retries).to.deep.equal([10, 20]);
  });

  it('of access events say what changes', () => {
    const event = { id: 7, topic: 'user:x', data: '{"topic":"escrow:y"}' };
    expect(encodeEvent({ ...event, type: 'access:granted' }).access).to.deep.equal({
      kind: 'granted',
      topic: 'escrow:y',
    });
    expect(encodeEvent({ ...event, type: 'access:revoked' }).access).to.deep.equal({
      kind: 'revoked',
      topic: 'escrow:y',
    });
    expect(encodeEvent({ ...event, type: 'test:happened' })).not.to.have.property('access');
  });
});
