import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { expect } from 'chai';
import { createParser } from 'eventsource-parser';
import type { Request } from 'express';
import fc from 'fast-check';
import { requestedCursor } from '../../src/http/cursor.ts';
import { Problem } from '../../src/http/errors.ts';
import { LAST_CHUNK } from '../../src/sse/chunk.ts';
import { encodeEvent, HEARTBEAT } from '../../src/sse/frame.ts';
import { rawHttp } from '../support/raw-http.ts';
import { Stage } from '../support/stage.ts';
import { makePerson, type Person } from '../support/world.ts';

/** Any text, and what is almost a cursor. */
const almostCursors = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.nat().map(String),
  fc.bigInt({ min: -(2n ** 70n), max: 2n ** 70n }).map(String),
  fc.double().map(String),
  fc.stringMatching(/^[ 0+-]{0,3}\d{1,17}[ .eE,\n]?\d{0,2}$/),
);
const CANONICAL = /^(0|[1-9]\d{0,14})$/;

const events = fc.record({
  id: fc.integer({ min: 1, max: 2 ** 48 - 1 }),
  topic: fc.constant('test:a'),
  type: fc.stringMatching(/^[a-z]{1,12}:[a-z_]{1,20}$/).filter((type) => !type.startsWith('access:')),
  data: fc.oneof(
    fc.json({ stringUnit: 'binary' }),
    fc
      .string({ unit: 'binary', maxLength: 3000 })
      .map((text) => JSON.stringify(`${text}\u2028\u0085\ufeff😀`)),
  ),
});

describe('whatever comes', () => {
  let stage: Stage;
  let person: Person;

  before(async () => {
    stage = await Stage.open();
    person = await makePerson(stage.pool, 1);
    await stage.settled();
  });
  after(() => stage.close());

  it('as a cursor is one in its one form, or is told to be none', () => {
    const asked = (headers: object, query: object): unknown => {
      try {
        return requestedCursor({ headers, query } as Request);
      } catch (error) {
        if (error instanceof Problem) return error.code;
        throw error;
      }
    };
    fc.assert(
      fc.property(almostCursors, almostCursors, (text, other) => {
        const value = CANONICAL.test(text) ? Number(text) : undefined;
        const empty = text === '';
        expect(asked({ 'last-event-id': text }, {})).to.equal(empty ? 'none' : (value ?? 'invalid'));
        expect(asked({}, { lastEventId: text })).to.equal(empty ? 'none' : (value ?? 'invalid_cursor'));
        expect(asked({}, { lastEventId: [text, other] })).to.equal('invalid_cursor');
        if (!empty)
          expect(asked({ 'last-event-id': text }, { lastEventId: other })).to.equal(value ?? 'invalid');
        if (value !== undefined)
          expect([String(value), Number.isSafeInteger(value)]).to.deep.equal([text, true]);
      }),
      { numRuns: 1000 },
    );
  });

  it('as events is read from the wire as the same events, in whatever pieces the network brings it', async () => {
    let pieces: Buffer[] = [];
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.setNoDelay(true);
      socket.once('data', async () => {
        for (const piece of pieces) {
          socket.write(piece);
          await new Promise(setImmediate);
        }
        socket.end();
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const property = fc.asyncProperty(
      fc.array(events, { maxLength: 6 }),
      fc.array(fc.nat(), { maxLength: 12 }),
      async (sent, cuts) => {
        const bytes = Buffer.concat([
          Buffer.from('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n'),
          ...sent.flatMap((event) => [encodeEvent(event).chunk.framed, HEARTBEAT.framed]),
          LAST_CHUNK,
        ]);
        const borders = [0, ...cuts.map((cut) => cut % bytes.length).sort((a, b) => a - b), bytes.length];
        pieces = borders.slice(1).map((end, index) => bytes.subarray(borders[index], end));
        const got: { id: string | undefined; type: string | undefined; data: string }[] = [];
        const parser = createParser({
          onEvent: ({ id, event, data }) => got.push({ id, type: event, data }),
          onError: (error) => {
            throw error;
          },
        });
        const [response] = (await once(get({ port, host: '127.0.0.1', agent: false }), 'response')) as [
          IncomingMessage,
        ];
        response.setEncoding('utf8').on('data', (text: string) => parser.feed(text));
        await once(response, 'end');
        expect(response.complete).to.equal(true);
        expect(got).to.deep.equal(sent.map(({ id, type, data }) => ({ id: String(id), type, data })));
      },
    );
    try {
      await fc.assert(property, { numRuns: 60 });
    } finally {
      server.close();
      await once(server, 'close');
    }
  });

  it('in whatever header adds no line to a stream', async function () {
    this.timeout(60_000);
    // Bytes of a header's value (RFC 9110, section 5.5); others are refused by the parser.
    const values = fc.oneof(
      fc
        .array(fc.oneof(fc.integer({ min: 0x20, max: 0x7e }), fc.integer({ min: 0x80, max: 0xff })))
        .map((bytes) => Buffer.from(bytes).toString('latin1')),
      fc.stringMatching(/^\d{0,4}(\\n|%0a|\\r\\n|\t)(id|event|data|retry): ?\w{0,5}$/),
    );
    const names = fc.constantFrom(
      'Last-Event-ID',
      'Cookie',
      'Origin',
      'X-Forwarded-For',
      'User-Agent',
      'Referer',
    );
    await fc.assert(
      fc.asyncProperty(names, values, async (name, value) => {
        const answer = await rawHttp(
          stage.service.url,
          `GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${person.token}\r\n${name}: ${value}\r\n\r\n`,
          /event: caught-up\r?\n.*\n.*\n\n/,
        );
        expect(answer).to.match(/^HTTP\/1\.1 200 /);
        const body = answer.slice(answer.indexOf('\r\n\r\n') + 4);
        for (const line of body.split(/\r\n|\n|\r/))
          expect(line).to.match(
            /^(retry: \d+|event: (session|reset|caught-up)|data: \{"[^\n]*\}|id: \d+|[0-9a-f]+|)$/,
          );
      }),
      { numRuns: 60 },
    );
  });
});
