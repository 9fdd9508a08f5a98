import { expect } from 'chai';
import type { Service } from '../../src/service.ts';
import { Blockade } from '../support/blockade.ts';
import { metric } from '../support/metrics.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makeEscrow, makePerson, makeStream, type Person } from '../support/world.ts';

describe('the bounds of snapshots', () => {
  let stage: Stage;
  let service: Service;
  let person: Person;
  let stream: string;
  let escrow: string;

  before(async () => {
    stage = await Stage.open();
    service = await stage.addService({
      SNAPSHOT_CONCURRENCY: '1',
      SNAPSHOT_WAITING: '2',
      SNAPSHOT_MAX_ROWS: '10',
    });
    person = await makePerson(stage.pool, 1);
    stream = await makeStream(stage.pool, person, person);
    escrow = await makeEscrow(stage.pool, person);
    await stage.settled(service);
  });
  after(() => stage.close());

  async function ask(query = ''): Promise<{ status: number; code: string; retryAfter: string | null }> {
    const response = await fetch(`${service.url}/v1/snapshot${query}`, {
      headers: { Authorization: `Bearer ${person.token}` },
    });
    const { code = 'ok' } = (await response.json()) as { code?: string };
    return { status: response.status, code, retryAfter: response.headers.get('retry-after') };
  }

  it('one is read at a time, so many wait, and the next is told to come again', async () => {
    const blockade = await Blockade.of(stage.pool, 'settlements');
    const asked = Array.from({ length: 5 }, () => ask());
    await waitFor(async () => (await metric(service, 'settlewire_snapshots_refused')) === 2, {
      what: 'two to be refused',
    });
    expect(await metric(service, 'settlewire_snapshots_running')).to.equal(1);
    expect(await metric(service, 'settlewire_snapshots_waiting')).to.equal(2);
    await blockade.lift();
    const answers = await Promise.all(asked);
    expect(answers.map(({ code }) => code).sort()).to.deep.equal([
      'ok',
      'ok',
      'ok',
      'unavailable',
      'unavailable',
    ]);
    for (const { status, code, retryAfter } of answers) {
      expect(status).to.equal(code === 'ok' ? 200 : 503);
      expect(retryAfter).to.equal(code === 'ok' ? null : '1');
    }
    expect(await metric(service, 'settlewire_snapshots_running')).to.equal(0);
    expect((await ask()).status).to.equal(200);
  });

  it('one whose query fails leaves its turn to the next', async () => {
    await stage.pool.query('alter table settlements rename to elsewhere');
    try {
      expect((await ask()).code).to.equal('unavailable');
    } finally {
      await stage.pool.query('alter table elsewhere rename to settlements');
    }
    expect((await ask()).status).to.equal(200);
  });

  for (const [rows, fill, topic, count] of [
    [
      'streams',
      `insert into streams (payer, recipient, status, rate_per_second, total_amount)
       select $1, 'somebody', 'active', 1, 1 from generate_series(1, $2::int)`,
      () => `wallet:${person.wallet}`,
      9,
    ],
    [
      'settlements',
      `insert into settlements (stream_id, status, amount, asset, finished_at)
       select $1::uuid, 'succeeded', 1, 'USDC', now() from generate_series(1, $2::int)`,
      () => `stream:${stream}`,
      9,
    ],
    [
      'escrows, which are looked up by user and read',
      `insert into escrows (title, amount, asset_code, creator_id)
       select 'boat', 1, 'USDC', $1::uuid from generate_series(1, $2::int)`,
      () => `user:${person.id}`,
      4,
    ],
    [
      'milestones',
      `insert into escrow_conditions (escrow_id, type, amount, is_released, released_at)
       select $1::uuid, 'manual', 1, true, now() from generate_series(1, $2::int)`,
      () => `escrow:${escrow}`,
      9,
    ],
    [
      'notifications',
      `insert into notifications (user_id, event_type) select $1::uuid, 'x' from generate_series(1, $2::int)`,
      () => `user:${person.id}`,
      8,
    ],
  ] as const) {
    it(`ten rows of ${rows} are a snapshot, eleven are too many`, async () => {
      const client = await stage.pool.connect();
      const subject = topic().slice(topic().indexOf(':') + 1);
      const tables = ['escrow_conditions', 'settlements', 'notifications'];
      try {
        await client.query(fill, [subject, count]);
        expect(await ask(`?topic=${topic()}`)).to.include({ status: 200 });
        const before = await metric(service, 'settlewire_snapshots_too_large');
        await client.query(fill, [subject, 1]);
        expect(await ask(`?topic=${topic()}`)).to.include({ status: 400, code: 'snapshot_too_large' });
        expect(await metric(service, 'settlewire_snapshots_too_large')).to.equal(before + 1);
      } finally {
        for (const table of tables) await client.query(`delete from ${table}`);
        await client.query('delete from streams where id <> $1', [stream]);
        await client.query('delete from escrows where id <> $1', [escrow]);
        client.release();
      }
    });
  }
});
