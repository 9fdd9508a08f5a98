const CRLF = '\r\n';

/**
 * Bytes of a stream with their transfer framing around them (RFC 9112, section 7.1): made once, in one allocation, and written
 * as they are to every socket. A socket of HTTP/1.0, which knows no chunks, gets what lies between.
 *
 * Chunks made together (`each`) are parts of one: joined again they are that one, without a copy. So a page of the past is written
 * as it was encoded, and costs the memory of its bytes and of nothing else, to however many.
 */
export class Chunk {
  /** Bytes of the payload. */
  readonly length: number;
  /** The framed bytes of the chunk that this one is, or is a part of. */
  readonly #whole: Buffer;
  /** Where the payload begins in them. */
  readonly #start: number;
  /** Of this chunk alone, once somebody has asked: everybody who gets it does. */
  #framed: Buffer | undefined;

  private constructor(whole: Buffer, start: number, length: number) {
    this.#whole = whole;
    this.#start = start;
    this.length = length;
    this.#framed = framedLength(length) === whole.length ? whole : undefined;
  }

  /** @throws RangeError for an empty text: a chunk of nothing would end the body */
  static of(text: string): Chunk {
    const length = Buffer.byteLength(text);
    const framed = frame(length);
    const start = framed.length - CRLF.length - length;
    framed.write(text, start);
    return new Chunk(framed, start, length);
  }

  /** A chunk of each text, all in one allocation; no text may be empty or end within a character. */
  static each(texts: readonly string[]): Chunk[] {
    if (texts.length === 0) return [];
    const whole = Chunk.of(texts.join(''));
    // Without characters beyond ASCII, a text has as many bytes as units.
    const ascii = whole.length === texts.reduce((sum, { length }) => sum + length, 0);
    return whole.#cut(texts.map((text) => (ascii ? text.length : Buffer.byteLength(text))));
  }

  /** As {@link each}, of payloads that stand encoded one after the other, of these lengths; they are copied. */
  static parts(payloads: Buffer, lengths: readonly number[]): Chunk[] {
    const framed = frame(payloads.length);
    const start = framed.length - CRLF.length - payloads.length;
    payloads.copy(framed, start);
    return new Chunk(framed, start, payloads.length).#cut(lengths);
  }

  /** Parts of these lengths, one after the other. */
  #cut(lengths: readonly number[]): Chunk[] {
    let start = this.#start;
    return lengths.map((length) => {
      const part = new Chunk(this.#whole, start, length);
      start += length;
      return part;
    });
  }

  /** Several chunks as one, at least one; without a copy if each begins where the one before it ends. */
  static join(chunks: readonly Chunk[]): Chunk {
    const [first] = chunks;
    if (first === undefined) throw new RangeError('nothing to join');
    if (chunks.length === 1) return first;
    let length = 0;
    let inOnePiece = true;
    for (const chunk of chunks) {
      inOnePiece &&= chunk.#whole === first.#whole && chunk.#start === first.#start + length;
      length += chunk.length;
    }
    if (inOnePiece) return new Chunk(first.#whole, first.#start, length);
    const framed = frame(length);
    const start = framed.length - CRLF.length - length;
    let at = start;
    for (const chunk of chunks) {
      chunk.copyTo(framed, at);
      at += chunk.length;
    }
    return new Chunk(framed, start, length);
  }

  /** A chunk of a chunked body: size line, payload, line end. A copy, made once, if this is a part of another one. */
  get framed(): Buffer {
    this.#framed ??= this.#copy();
    return this.#framed;
  }

  #copy(): Buffer {
    const framed = frame(this.length);
    this.bytes.copy(framed, framed.length - CRLF.length - this.length);
    return framed;
  }

  /** Copies the payload. */
  copyTo(target: Buffer, at: number): void {
    this.#whole.copy(target, at, this.#start, this.#start + this.length);
  }

  /** The payload alone: a view, not a copy. */
  get bytes(): Buffer {
    return this.#whole.subarray(this.#start, this.#start + this.length);
  }
}

/** What ends a chunked body. */
export const LAST_CHUNK = Buffer.from('0\r\n\r\n');

/** Bytes of a chunk with its framing; the more, the longer its payload. */
function framedLength(length: number): number {
  return length.toString(16).length + 2 * CRLF.length + length;
}

/** The framing of a chunk, its payload still to be filled in. */
function frame(length: number): Buffer {
  if (length === 0) throw new RangeError('an empty chunk would end the body');
  const framed = Buffer.allocUnsafe(framedLength(length));
  put(framed, 0, length.toString(16) + CRLF);
  put(framed, framed.length - CRLF.length, CRLF);
  return framed;
}

/** A few characters of ASCII; for so few, Buffer's own write takes longer to begin than all of this. */
function put(bytes: Buffer, at: number, text: string): void {
  for (let index = 0; index < text.length; index += 1) bytes[at + index] = text.charCodeAt(index);
}
