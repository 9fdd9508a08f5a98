import { expect } from 'chai';
import { createParser } from 'eventsource-parser';
import fc from 'fast-check';
import { type Block, BlockParser } from '../../src/client/parser.ts';

function parse(chunks: readonly string[]): Block[] {
  const blocks: Block[] = [];
  const parser = new BlockParser((block) => blocks.push(block));
  for (const chunk of chunks) parser.push(chunk);
  return blocks;
}

/** The same by a parser that is not ours; it has no name for a block without one. */
function parseElsewhere(text: string): Block[] {
  const blocks: Block[] = [];
  const parser = createParser({
    onEvent: ({ event = 'message', data, id }) => blocks.push({ type: event, data, id }),
  });
  parser.feed(text);
  return blocks;
}

const line = fc.oneof(
  fc.constantFrom(
    '',
    ':',
    ': a comment',
    'data',
    'data:',
    'event: a',
    'id: 7',
    'id:',
    'retry: 20',
    'nonsense',
    ' data: 1',
  ),
  fc.string({ unit: fc.constantFrom('d', 'ü', '😀', ' ', ':', '\t') }).map((text) => `data: ${text}`),
);
const stream = fc
  .array(fc.tuple(line, fc.constantFrom('\n', '\r\n', '\r')))
  .map((lines) => lines.map((it) => it.join('')).join(''));

describe("the client's parser of event streams", () => {
  it('finds the blocks that another parser finds', () => {
    fc.assert(
      fc.property(stream, (text) => {
        // A carriage return at the very end may be half of a line's end; the other parser waits for what follows.
        expect(parse([`${text}\n`])).to.deep.equal(parseElsewhere(`${text}\n`));
      }),
      { numRuns: 500 },
    );
  });

  it('finds the same blocks wherever the stream is cut', () => {
    fc.assert(
      fc.property(stream, fc.array(fc.nat()), (text, cuts) => {
        const at = [...new Set(cuts.map((cut) => cut % (text.length + 1)))].sort((a, b) => a - b);
        const chunks = [0, ...at].map((start, index) => text.slice(start, at[index] ?? text.length));
        expect(chunks.join('')).to.equal(text);
        expect(parse(chunks)).to.deep.equal(parse([text]));
        expect(parse([...text])).to.deep.equal(parse([text]));
      }),
      { numRuns: 500 },
    );
  });

  it('gives nothing for a block whose empty line has not come', () => {
    const whole = 'event: a\ndata: 1\nid: 5\n\n';
    for (let end = 0; end < whole.length; end += 1)
      expect(parse([whole.slice(0, end)]), `${end}`).to.deep.equal([]);
    expect(parse([whole])).to.deep.equal([{ type: 'a', data: '1', id: '5' }]);
  });

  it('takes no id from the block before, and none with a NUL', () => {
    expect(parse(['id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\n']).map(({ id }) => id)).to.deep.equal([
      '1',
      undefined,
      undefined,
    ]);
  });

  it('remembers the last retry that is a number', () => {
    const parser = new BlockParser(() => {});
    parser.push('retry: 20\n');
    parser.push('retry: soon\n');
    expect(parser.retryMs).to.equal(20);
  });

  for (const [what, chunk] of [
    ['line', 'x'.repeat(1000)],
    ['block', `data: ${'x'.repeat(1000)}\n`],
  ] as const) {
    it(`refuses a ${what} that never ends`, () => {
      const parser = new BlockParser(() => {});
      expect(() => {
        for (let times = 0; times < 1100; times += 1) parser.push(chunk);
      }).to.throw(RangeError);
    });
  }
});
