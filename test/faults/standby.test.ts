import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Pool } from 'pg';
import { createPool } from '../../src/database.ts';
import { readPage } from '../../src/outbox/reader.ts';
import { Replayer } from '../../src/outbox/replayer.ts';
import { Replica } from '../../src/outbox/replica.ts';
import { startStandby } from '../support/base-backup.ts';
import { OwnPostgres } from '../support/own-postgres.ts';
import { append, column, failure, scalar } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

describe('a standby', function () {
  this.timeout(60_000);
  const servers: OwnPostgres[] = [];
  let directory: string;
  let primary: Pool;
  let standby: Pool;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'settlewire-standby-'));
    const first = await OwnPostgres.start({ settings: { fsync: 'off' } });
    servers.push(first);
    primary = first.pool;
    await append(primary);
    const second = await startStandby(first, directory);
    servers.push(second);
    standby = second.pool;
  });

  after(async () => {
    for (const server of servers.reverse()) await server.remove();
    await rm(directory, { recursive: true, force: true });
  });

  it('has no horizon: its writers are not in its lock table, so whatever would need one raises', async () => {
    expect(await scalar(standby, 'select pg_is_in_recovery()')).to.equal(true);
    for (const read of [
      'select outbox_horizon()',
      'select * from outbox_read(0)',
      'select outbox_head()',
      'select * from outbox_read_batch(0, 10)',
    ]) {
      const { code, message } = await failure(standby.query(read));
      expect(code, read).to.equal('55000');
      expect(message).to.match(/^a standby has no horizon/);
    }
  });

  it('shows in outbox_stats what a standby knows, and no horizon', async () => {
    const { rows } = await standby.query('select * from outbox_stats');
    expect(rows[0]).to.include({ relays: 0, horizon: null, behind: null, writers_in_flight: 0 });
  });

  it('can replay what the primary has settled', async () => {
    const id = await append(primary);
    await waitFor(
      async () => (await column(standby, 'select id from outbox where id = $1', [id])).length === 1,
      {
        what: 'replication',
      },
    );
    const page = await readPage(standby, ['test:a'], 0, id, { maxEvents: 10, maxBytes: 1e6 });
    expect(page.events.map((event) => event.id)).to.deep.equal([1, 2]);
    expect(page.reached).to.equal(id);
  });

  const LIMITS = { maxEvents: 10, maxBytes: 1e6 };
  let nowMs: number;
  let warnings: number;

  beforeEach(() => {
    nowMs = 0;
    warnings = 0;
  });

  function makeReplica(pool: Pool): Replica {
    return new Replica({ primary, pool, log: { warn: () => (warnings += 1) }, now: () => nowMs });
  }

  /** Until it has everything that the primary has now. */
  async function replayed(): Promise<void> {
    const lsn = await scalar<string>(primary, 'select pg_current_wal_lsn()');
    await waitFor(() => scalar(standby, 'select pg_last_wal_replay_lsn() >= $1::pg_lsn', [lsn]), {
      what: 'replication',
    });
  }

  /** Until the replica has what its mark says, which the first question sets, and gives it. */
  async function given(replica: Replica, after: number, through: number): Promise<void> {
    await waitFor(async () => (await replica.page('all', after, through, LIMITS))?.reached === through, {
      what: 'a page of the standby',
    });
  }

  it('for replays gives what it has all of, and nothing while it lags: then the primary is asked', async () => {
    const first = await append(primary);
    // Whatever else the primary logs between the look and the question makes the standby lag: then once more.
    const { replica, replayer } = await waitFor(
      async () => {
        const replica = makeReplica(standby);
        const replayer = new Replayer({
          db: primary,
          replica,
          concurrency: 1,
          pageEvents: 10,
          pageBytes: 1e6,
        });
        await replayed();
        const { events } = await replayer.page(['test:a'], first - 1, first);
        expect(events.map(({ id }) => id)).to.deep.equal([first]);
        return replica.passedOver === 0 ? { replica, replayer } : undefined;
      },
      { what: 'a page of the standby' },
    );
    expect([replica.pages, replica.passedOver]).to.deep.equal([1, 0]);

    await standby.query('select pg_wal_replay_pause()');
    const second = await append(primary);
    const page = await replayer.page(['test:a'], first, second);
    expect(page.events.map(({ id }) => id)).to.deep.equal([second]);
    expect([replica.pages, replica.passedOver]).to.deep.equal([1, 1]);
    // What it was known to have before it still gives, and says where that ends.
    const old = makeReplica(standby);
    await standby.query('select pg_wal_replay_resume()');
    await given(old, 0, first);
    await standby.query('select pg_wal_replay_pause()');
    const third = await append(primary);
    expect(await old.page('all', 0, third, LIMITS)).to.include({ reached: first });
    expect(await old.page('all', first, third, LIMITS)).to.equal(undefined);
    await standby.query('select pg_wal_replay_resume()');
    await given(old, first, third);
  });

  it('for replays is not asked what another cluster, another epoch or a primary would answer', async () => {
    const head = await append(primary);
    expect(await makeReplica(primary).page('all', 0, head, LIMITS), 'no standby').to.equal(undefined);
    const replica = makeReplica(standby);
    await primary.query('update outbox_meta set epoch = gen_random_uuid()');
    await given(replica, 0, head);
    await primary.query('update outbox_meta set epoch = gen_random_uuid()');
    await replayed();
    expect(await replica.page('all', 0, head, LIMITS), 'its mark is of an epoch that has ended').to.equal(
      undefined,
    );
    expect(warnings).to.equal(0);
  });

  it('for replays that does not answer is left alone for a while, and the primary is asked', async () => {
    const head = await append(primary);
    const nobody = createPool('postgres://nobody@127.0.0.1:1/none', { max: 1 });
    const replica = makeReplica(nobody);
    expect(await replica.page('all', 0, head, LIMITS)).to.equal(undefined);
    expect(await replica.page('all', 0, head, LIMITS)).to.equal(undefined);
    expect([warnings, replica.passedOver]).to.deep.equal([1, 2]);
    nowMs = 6000;
    await replica.page('all', 0, head, LIMITS);
    expect(warnings, 'asked again').to.equal(2);
    await nobody.end();
  });

  it('opens a new epoch once it is promoted: ids that it never received may be given out again', async () => {
    const before = await scalar(primary, 'select epoch from outbox_meta');
    await servers[0]?.stopFast();
    await standby.query('select pg_promote()');
    expect(await scalar(standby, 'select outbox_follow_epoch()')).to.not.equal(before);
    expect(await scalar(standby, 'select first_id from outbox_meta')).to.be.above(1_000_000_000);
    expect((await failure(standby.query('select * from outbox_read(2)'))).code).to.equal('P0002');
  });
});
