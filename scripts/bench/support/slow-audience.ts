import type { IncomingMessage } from 'node:http';
import { request } from 'node:http';
import { nowMicroseconds, servePart } from './child.ts';

export interface SlowAudienceInput {
  readonly url: string;
  readonly token: string;
  readonly streams: number;
  /** Stop reading once the stream has begun. */
  readonly stalled: boolean;
}

export interface SlowAudienceReport {
  /** Events that each has got. */
  readonly events: readonly number[];
  /** When the last of them came, in microseconds. */
  readonly lastAt: number;
  /** From `at` in an event's data to its arrival, in milliseconds, since the last report. */
  readonly latenciesMs: readonly number[];
  /** Streams that have ended, which none should. */
  readonly ended: number;
}

const AT = Buffer.from('{"at" : ');
const ID = Buffer.from('\nid: ');

/** Opens streams of one topic, and reads them, or does not. */
servePart<SlowAudienceInput, SlowAudienceReport>(async ({ url, token, streams, stalled }) => {
  const events: number[] = Array.from({ length: streams }, () => 0);
  let latenciesMs: number[] = [];
  let lastAt = 0;
  let ended = 0;

  const open = (index: number): Promise<void> =>
    new Promise((resolve, reject) => {
      const headers = { Accept: 'text/event-stream', Authorization: `Bearer ${token}` };
      const outgoing = request(url, { headers, agent: false }, (response: IncomingMessage) => {
        let live = false;
        let rest: Buffer = Buffer.alloc(0);
        response.on('data', (chunk: Buffer) => {
          const now = nowMicroseconds();
          const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
          const end = bytes.lastIndexOf('\n\n') + 2;
          rest = bytes.subarray(end === 1 ? 0 : end);
          const blocks = bytes.subarray(0, end === 1 ? 0 : end);
          if (!live) {
            live = blocks.includes('event: caught-up');
            if (live) resolve();
            if (live && stalled) response.pause();
            return;
          }
          let found = events[index] ?? 0;
          for (let at = blocks.indexOf(ID); at >= 0; at = blocks.indexOf(ID, at + 1)) found += 1;
          // A quiet stream's `cursor` has an id, too.
          for (
            let at = blocks.indexOf('event: cursor');
            at >= 0;
            at = blocks.indexOf('event: cursor', at + 1)
          )
            found -= 1;
          events[index] = found;
          for (let at = blocks.indexOf(AT); at >= 0; at = blocks.indexOf(AT, at + 1)) {
            const sentAt = Number.parseInt(
              blocks.toString('latin1', at + AT.length, at + AT.length + 20),
              10,
            );
            if (sentAt > 0) latenciesMs.push((now - sentAt) / 1000);
          }
          lastAt = now;
        });
        response.on('error', () => {});
        response.on('close', () => {
          ended += 1;
        });
      });
      outgoing.on('error', reject);
      outgoing.end();
    });

  for (let from = 0; from < streams; from += 20)
    await Promise.all(
      Array.from({ length: Math.min(20, streams - from) }, (_, offset) => open(from + offset)),
    );
  return () => {
    const report = { events, lastAt, latenciesMs, ended };
    latenciesMs = [];
    return report;
  };
});
