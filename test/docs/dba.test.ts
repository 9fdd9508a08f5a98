import { readFile } from 'node:fs/promises';
import { expect } from 'chai';
import type { QueryArrayResult } from 'pg';
import { seedDemo } from '../../src/demo/seed.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { append, openSession, type Session } from '../support/session.ts';

interface Example {
  readonly sql: string;
  /** What psql printed, if the page shows it. */
  readonly shown: string | undefined;
}

const page = await readFile(new URL('../../docs/dba.md', import.meta.url), 'utf8');
const examples: Example[] = [...page.matchAll(/```sql\n([\s\S]*?)```\n(?:\n```text\n([\s\S]*?)```\n)?/g)].map(
  ([, sql = '', shown]) => ({ sql, shown }),
);

describe('docs/dba.md', () => {
  let database: TestDatabase;
  let forgotten: Session;

  before(async () => {
    database = await createTestDatabase();
    await seedDemo(database.pool);
    // Somebody to be found by "who holds back the horizon".
    forgotten = await openSession(database.pool);
    await forgotten.query('begin');
    await append(forgotten);
    await append(database.pool);
  });

  after(async () => {
    forgotten.end();
    await database.drop();
  });

  it('has examples to run', () => {
    expect(examples.filter(({ shown }) => shown !== undefined)).to.have.length.above(4);
    expect(examples).to.have.length.above(14);
  });

  for (const [index, { sql, shown }] of examples.entries()) {
    it(`statement ${index + 1} runs as written: ${sql.trim().split('\n')[0]}`, async () => {
      if (/\bdrop function\b/.test(sql)) await forgotten.query('rollback');
      const client = await database.pool.connect();
      try {
        // Several statements at once, as in psql: one result each.
        const answer: unknown = await client.query({ text: sql, rowMode: 'array' });
        const last = (Array.isArray(answer) ? answer.at(-1) : answer) as QueryArrayResult;
        if (shown === undefined) return;
        const [head = '', , ...rows] = shown.split('\n');
        expect(last.fields.map(({ name }) => name)).to.deep.equal(head.split('|').map((name) => name.trim()));
        expect(last.rows.length > 0, 'rows as shown').to.equal(!rows[0]?.startsWith('(0'));
      } finally {
        client.release();
      }
    });
  }

  it('"Take it out" has left the tables, which can be written, and nothing of the outbox', async () => {
    const { rows } = await database.pool.query(`
      select relname::text as name from pg_class where relname like 'outbox%'
      union all select proname from pg_proc where proname like 'outbox%'
      union all select typname from pg_type where typname like 'outbox%'
      union all select tgname from pg_trigger where tgname ~ '^(event|access)_'`);
    expect(rows).to.deep.equal([]);
    const changed = await database.pool.query(`
      with a as (update streams set status = 'ended' returning 1), b as (update escrows set status = 'cancelled' returning 1),
           c as (update users set is_active = not is_active returning 1), d as (delete from escrow_parties returning 1)
      select (select count(*) from a) > 0 and (select count(*) from b) > 0 and (select count(*) from c) > 0 and (select count(*) from d) > 0 as written`);
    expect(changed.rows).to.deep.equal([{ written: true }]);
  });
});
