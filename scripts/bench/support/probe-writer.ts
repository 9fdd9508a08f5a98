import pg from 'pg';
import { nowMicroseconds, servePart } from './child.ts';

export interface ProbeInput {
  readonly probes: readonly { readonly databaseUrl: string; readonly streamId: string }[];
  /** Writes a second to each of them. */
  readonly perSecond: number;
  readonly seconds: number;
}

export interface ProbeReport {
  /** For each database: when COMMIT had returned, in microseconds, by the amount written (1, 2, 3, …). */
  readonly commits: readonly (readonly number[])[];
}

/** Updates one stream in each database by turns, so that both meet the same machine; a slow commit delays the next, none is left out. */
servePart<ProbeInput, ProbeReport>(async ({ probes, perSecond, seconds }) => {
  const writers = await Promise.all(
    probes.map(async ({ databaseUrl, streamId }) => {
      const client = new pg.Client({ connectionString: databaseUrl });
      await client.connect();
      const commits: number[] = [];
      const write = async (): Promise<void> => {
        const values = [streamId, commits.length + 1];
        const text = 'update streams set total_amount = $2, updated_at = clock_timestamp() where id = $1';
        await client.query({ name: 'probe', text, values });
        commits.push(nowMicroseconds());
      };
      return { write, commits };
    }),
  );
  const stepMs = 1000 / perSecond / writers.length;
  const steps = perSecond * writers.length * seconds;
  const run = async (): Promise<void> => {
    const startedAt = performance.now();
    for (let step = 0; step < steps; step += 1) {
      const waitMs = startedAt + step * stepMs - performance.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      await writers[step % writers.length]?.write();
    }
  };
  const done = run();
  return () => done.then(() => ({ commits: writers.map(({ commits }) => commits) }));
});
