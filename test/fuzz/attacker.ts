import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { Dice } from './dice.ts';
import { type Loot, makeRequest, mutate } from './requests.ts';

/** Most connections that one attacker leaves open behind it. */
const LINGERING = 4;
/** A line of a stream, of its chunks, or nothing. */
const STREAM_LINE = /^(retry: \d+|event: [a-z:_-]+|data: \{.*\}|id: \d+|:|[0-9a-f]+|)$/;

export interface Tally {
  readonly statuses: Map<number, number>;
  connections: number;
  /** What must not happen, with the bytes that led to it. */
  readonly failures: string[];
}

/** One of many who connect, send whatever they like, and leave as they like; always the same for the same seed. */
export class Attacker {
  readonly #dice: Dice;
  readonly #url: URL;
  readonly #loot: Loot;
  readonly #tally: Tally;
  readonly #lingering: Socket[] = [];
  readonly #judgements = new Set<Promise<void>>();

  constructor(url: string, seed: number, loot: Loot, tally: Tally) {
    this.#dice = new Dice(seed);
    this.#url = new URL(url);
    this.#loot = loot;
    this.#tally = tally;
  }

  /** Attacks until told to stop, then lets go of every connection. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) await this.#attack();
    for (const socket of this.#lingering.splice(0)) socket.destroy();
    await Promise.all(this.#judgements);
  }

  async #attack(): Promise<void> {
    const dice = this.#dice;
    const requests = Array.from({ length: dice.once(3) ? 1 + dice.below(20) : 1 }, () =>
      Buffer.from(makeRequest(dice, this.#loot), 'latin1'),
    );
    const proper = Buffer.concat(requests);
    const bytes = dice.once(3) ? mutate(dice, proper) : dice.once(20) ? dice.bytes(300) : proper;
    const socket = connect(Number(this.#url.port), this.#url.hostname);
    const received: Buffer[] = [];
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    this.#tally.connections += 1;
    const connected = await Promise.race([
      once(socket, 'connect').then(
        () => true,
        () => false,
      ),
      closed,
    ]);
    if (connected !== true) return;
    // In one piece or in many, as the network may cut it.
    for (let at = 0; at < bytes.length && !socket.destroyed; ) {
      const end = dice.once(2) ? bytes.length : at + 1 + dice.below(200);
      socket.write(bytes.subarray(at, end));
      at = end;
      if (at < bytes.length) await new Promise(setImmediate);
    }
    const judgement = closed.then(() => {
      this.#judge(Buffer.concat(received).toString('latin1'), bytes);
      this.#judgements.delete(judgement);
    });
    this.#judgements.add(judgement);
    await this.#leave(socket, closed);
  }

  /** Waits for something or nothing, and goes in one of the ways there are. */
  async #leave(socket: Socket, closed: Promise<void>): Promise<void> {
    const dice = this.#dice;
    await Promise.race([closed, dice.once(3) ? setTimeout(dice.below(30)) : answered(socket)]);
    switch (dice.below(5)) {
      case 0:
        socket.resetAndDestroy();
        return;
      case 1:
        socket.end();
        break;
      case 2:
        socket.pause();
        break;
      case 3:
        break;
      default:
        socket.destroy();
        return;
    }
    this.#lingering.push(socket);
    if (this.#lingering.length > LINGERING) this.#lingering.shift()?.destroy();
  }

  #judge(answer: string, bytes: Buffer): void {
    const { statuses, failures } = this.#tally;
    const fail = (what: string): void => {
      failures.push(
        `${what}\n  sent (base64): ${bytes.toString('base64').slice(0, 4000)}\n  got: ${answer.slice(0, 2000)}`,
      );
    };
    const heads = [...answer.matchAll(/HTTP\/1\.1 (\d{3}) [\s\S]*?\r\n\r\n/g)];
    if (answer !== '' && heads[0]?.index !== 0) fail('an answer that is none');
    for (const [index, head] of heads.entries()) {
      const status = Number(head[1]);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (status >= 500) fail(`status ${status}`);
      if (!/^content-type: text\/event-stream/im.test(head[0])) continue;
      const body = answer.slice(head.index + head[0].length, heads[index + 1]?.index ?? answer.length);
      const lines = body.split(/\r\n|[\r\n]/).slice(0, -1);
      const foreign = lines.find((line) => !STREAM_LINE.test(line));
      if (foreign !== undefined) fail(`a line in a stream that is none of ours: ${JSON.stringify(foreign)}`);
    }
  }
}

/** Something has come back, or nothing comes. */
function answered(socket: Socket): Promise<unknown> {
  const patience = new AbortController();
  const { signal } = patience;
  const came = once(socket, 'data', { signal }).catch(() => {});
  const gaveUp = setTimeout(500, undefined, { signal, ref: false }).catch(() => {});
  return Promise.race([came, gaveUp]).finally(() => patience.abort());
}
