import pg from 'pg';
import { nowMicroseconds, servePart } from './child.ts';

export interface BareInput {
  readonly databaseUrl: string;
}

export interface BareReport {
  /** When each row had come, in microseconds, in the order of the notifications. */
  readonly arrivals: readonly number[];
}

/** The least that anybody could do: LISTEN, and on each notification read the row that it names. No order, no gaps, no sockets. */
servePart<BareInput, BareReport>(async ({ databaseUrl }) => {
  const arrivals: number[] = [];
  const client = new pg.Client({ connectionString: databaseUrl });
  const read = async (payload: string | undefined): Promise<void> => {
    await client.query({
      name: 'row',
      text: 'select id, status, rate_per_second, total_amount, last_settled_at, end_time, updated_at from streams where id = $1',
      values: [payload],
    });
    arrivals.push(nowMicroseconds());
  };
  let last = Promise.resolve();
  client.on('notification', ({ payload }) => {
    last = last.then(() => read(payload));
  });
  await client.connect();
  await client.query('listen bare');
  return () => ({ arrivals });
});
