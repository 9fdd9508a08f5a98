import pg from 'pg';
import { waitFor } from '../../../test/support/wait-for.ts';
import { Load } from './load.ts';
import { walletToken } from './streams.ts';

/** The first so many wallets follow everything of theirs, and keep what they get. */
export function followWallets(url: string, wallets: number): Promise<Load> {
  return Load.open({
    url,
    connections: wallets,
    requests: Array.from({ length: wallets }, (_, n) => ({
      path: '/v1/events',
      headers: { Authorization: `Bearer ${walletToken(n)}` },
    })),
    caughtUp: true,
    keep: true,
  });
}

/**
 * Every subscriber got exactly the outbox rows of its wallet's streams, in order; else the benchmark is to fail.
 * @param subscribers as {@link followWallets} makes them
 */
export async function checkExactness(databaseUrl: string, subscribers: Load): Promise<string> {
  let received = await subscribers.kept();
  const starts = received.map(({ start }) => start);
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const { rows } = await client.query(
    `select substr(s.payer, 6)::int as wallet, o.id::int as id from outbox o join streams s on o.topic = 'stream:' || s.id
      where o.id > $1 order by o.id`,
    [Math.min(...starts)],
  );
  await client.end();
  const expected = starts.map((start, wallet) =>
    rows.filter((each) => each.wallet === wallet && each.id > start).map((each) => each.id as number),
  );
  const total = expected.reduce((sum, ids) => sum + ids.length, 0);
  const count = (): number => received.reduce((sum, { events }) => sum + events.length, 0);
  await waitFor(
    async () => {
      received = await subscribers.kept();
      return count() >= total;
    },
    { what: 'the last events', timeoutMs: 10_000 },
  ).catch(() => {});
  const got = received.map(({ events }) => events.map(({ id }) => id));
  const wrong = expected.filter((ids, index) => ids.join() !== got[index]?.join()).length;
  const { closed } = await subscribers.report();
  if (wrong > 0 || closed > 0) process.exitCode = 1;
  return `exactness: ${count()} events delivered to ${starts.length} subscribers, ${total} expected, ${wrong} subscribers with a difference, ${closed} streams ended`;
}
