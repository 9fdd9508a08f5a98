/** One block of a stream, complete: its empty line has come. */
export interface Block {
  readonly type: string;
  readonly data: string;
  /** As sent; undefined if the block has none of its own. */
  readonly id: string | undefined;
}

/** A block that is longer than so many characters is no event: an event has at most 16 KiB. */
const LONGEST = 1_000_000;

/**
 * Parses `text/event-stream` as it comes, cut anywhere
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream).
 * A block counts only once its empty line is there: half a block at the end of a stream was never received, its id neither.
 */
export class BlockParser {
  readonly #onBlock: (block: Block) => void;
  #rest = '';
  #afterReturn = false;
  #type = '';
  #data: string[] = [];
  #length = 0;
  #id: string | undefined;
  /** The last `retry:`, in milliseconds. */
  retryMs: number | undefined;

  constructor(onBlock: (block: Block) => void) {
    this.#onBlock = onBlock;
  }

  /** @throws RangeError if a block has no end */
  push(text: string): void {
    const fresh = this.#afterReturn && text.startsWith('\n') ? text.slice(1) : text;
    if (text !== '') this.#afterReturn = fresh === '' ? false : fresh.endsWith('\r');
    const lines = (this.#rest + fresh).split(/\r\n|\r|\n/);
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#take(line);
    if (this.#rest.length + this.#length > LONGEST) throw new RangeError('a block of the stream has no end');
  }

  #take(line: string): void {
    if (line === '') {
      this.#end();
      return;
    }
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (name === 'data') {
      this.#data.push(value);
      this.#length += value.length + 1;
    } else if (name === 'event') this.#type = value;
    else if (name === 'id' && !value.includes('\0')) this.#id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) this.retryMs = Number(value);
  }

  #end(): void {
    const [type, data, id] = [this.#type, this.#data, this.#id];
    this.#type = '';
    this.#data = [];
    this.#length = 0;
    this.#id = undefined;
    if (data.length > 0) this.#onBlock({ type: type || 'message', data: data.join('\n'), id });
  }
}
