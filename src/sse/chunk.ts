const CRLF = '\r\n';

/**
 * Bytes of a stream with their transfer framing around them (RFC 9112, section 7.1): made once, in one allocation, and written
 * as they are to every socket. A socket of HTTP/1.0, which knows no chunks, gets what lies between.
 */
export class Chunk {
  /** A chunk of a chunked body: size line, payload, line end. */
  readonly framed: Buffer;
  /** Bytes of the payload. */
  readonly length: number;

  private constructor(framed: Buffer, length: number) {
    this.framed = framed;
    this.length = length;
  }

  /** @throws RangeError for an empty text: a chunk of nothing would end the body */
  static of(text: string): Chunk {
    const length = Buffer.byteLength(text);
    const framed = frame(length);
    framed.write(text, framed.length - CRLF.length - length);
    return new Chunk(framed, length);
  }

  /** Several chunks as one, at least one. */
  static join(chunks: readonly Chunk[]): Chunk {
    const [first] = chunks;
    if (first !== undefined && chunks.length === 1) return first;
    let length = 0;
    for (const chunk of chunks) length += chunk.length;
    const framed = frame(length);
    let at = framed.length - CRLF.length - length;
    for (const { framed: part, length: size } of chunks) {
      part.copy(framed, at, part.length - CRLF.length - size, part.length - CRLF.length);
      at += size;
    }
    return new Chunk(framed, length);
  }

  /** The payload alone: a view, not a copy. */
  get bytes(): Buffer {
    const end = this.framed.length - CRLF.length;
    return this.framed.subarray(end - this.length, end);
  }
}

/** What ends a chunked body. */
export const LAST_CHUNK = Buffer.from('0\r\n\r\n');

/** The framing of a chunk, its payload still to be filled in. */
function frame(length: number): Buffer {
  const sizeLine = length.toString(16) + CRLF;
  if (length === 0) throw new RangeError('an empty chunk would end the body');
  const framed = Buffer.allocUnsafe(sizeLine.length + length + CRLF.length);
  framed.write(sizeLine, 0, 'latin1');
  framed.write(CRLF, framed.length - CRLF.length, 'latin1');
  return framed;
}
