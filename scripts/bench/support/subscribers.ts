import { request } from 'node:http';
import { nowMicroseconds, servePart } from './child.ts';

export interface SubscribersInput {
  readonly streams: readonly { readonly url: string; readonly token: string }[];
  /** Also keep when each event came, and the `totalAmount` in it: for few events. */
  readonly timed: boolean;
}

export interface SubscribersReport {
  /** Ids of the events that each got, in the order in which they came. */
  readonly ids: readonly (readonly number[])[];
  /** When its stream began: everything later must be in `ids`. */
  readonly starts: readonly number[];
  readonly arrivals: readonly { readonly amount: number; readonly at: number }[];
  /** Streams that have ended, which none should. */
  readonly ended: number;
}

/** Opens SSE streams, some at a time, and keeps what they get. */
servePart<SubscribersInput, SubscribersReport>(async ({ streams, timed }) => {
  const ids: number[][] = streams.map(() => []);
  const starts: number[] = streams.map(() => 0);
  const arrivals: { amount: number; at: number }[] = [];
  let ended = 0;

  const open = (index: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const stream = streams[index];
      if (stream === undefined) return resolve();
      const headers = { Accept: 'text/event-stream', Authorization: `Bearer ${stream.token}` };
      const outgoing = request(stream.url, { headers, agent: false }, (response) => {
        if (response.statusCode !== 200) return reject(new Error(`refused: ${response.statusCode}`));
        starts[index] = Number(response.headers['last-event-id']);
        let rest = '';
        response.setEncoding('utf8').on('data', (text: string) => {
          const at = timed ? nowMicroseconds() : 0;
          const blocks = (rest + text).split('\n\n');
          rest = blocks.pop() ?? '';
          for (const block of blocks) {
            // Comments stand before a block, each on a line of its own.
            const type = /^event: ([a-z-]+)(:?)/m.exec(block);
            if (type?.[1] === 'caught-up') resolve();
            if (type?.[2] !== ':') continue;
            ids[index]?.push(Number(block.slice(block.lastIndexOf('\nid: ') + 5)));
            if (timed) arrivals.push({ amount: Number(/"totalAmount" : "(\d+)/.exec(block)?.[1]), at });
          }
        });
        response.on('error', () => {});
        response.on('close', () => {
          ended += 1;
        });
      });
      outgoing.on('error', reject);
      outgoing.end();
    });

  for (let from = 0; from < streams.length; from += 20)
    await Promise.all(streams.slice(from, from + 20).map((_, offset) => open(from + offset)));
  return () => ({ ids, starts, arrivals, ended });
});
