import { expect } from 'chai';
import { metric } from '../support/metrics.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { makePerson, makeStream, type Person } from '../support/world.ts';

describe('a stream that cannot be replayed exactly', () => {
  let stage: Stage;
  let payer: Person;
  let topic: string;
  let path: string;

  beforeEach(async () => {
    stage = await Stage.open({ SAFETY_POLL_MS: '50' });
    payer = await makePerson(stage.pool, 1);
    const stream = await makeStream(stage.pool, payer, payer);
    topic = `stream:${stream}`;
    path = `/v1/streams/${stream}/events`;
    await stage.publish(topic, 5);
  });

  afterEach(() => stage.close());

  /** The reset comes before caught-up, and then the stream is live from the cursor that the reset names. */
  async function expectReset(client: SseClient, reset: Record<string, unknown>): Promise<void> {
    await client.caughtUp();
    expect(client.messages.map(({ type }) => type)).to.deep.equal(['session', 'reset', 'caught-up']);
    expect(client.messages[1]).to.deep.equal({ type: 'reset', data: reset, id: undefined });
    expect(client.messages[0]?.data['cursor']).to.equal(reset['cursor']);
    expect(client.response?.headers['last-event-id']).to.equal(String(reset['cursor']));
    const head = await stage.publish(topic);
    await client.received(1);
    expect(client.ids).to.deep.equal([head]);
    expect(await metric(stage.service, `settlewire_resets_total{reason="${reset['reason']}"}`)).to.equal(1);
  }

  async function dropOldEvents(): Promise<number> {
    await stage.pool.query('update outbox_meta set partition_ids = 10');
    await stage.pool.query(`do $$ declare part text; begin
      for part in select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
                   where i.inhparent = 'outbox'::regclass and c.relname <> 'outbox_default' loop
        execute format('drop table %I', part);
      end loop; end $$`);
    await stage.pool.query('select outbox_add_partitions(6)');
    await stage.publish(topic, 25);
    await stage.pool.query('select outbox_drop_partitions(clock_timestamp())');
    const { rows } = await stage.pool.query<{ oldest: number }>('select outbox_oldest() as oldest');
    const oldest = rows[0]?.oldest ?? 0;
    // The hub learns of it with the relay's next read.
    await stage.publish(topic);
    return oldest;
  }

  it('is reset as expired when retention has dropped what it missed, and not one id earlier', async () => {
    const oldest = await dropOldEvents();
    expect(oldest).to.be.greaterThan(5);
    const head = stage.cursor;
    const [gone, kept] = await Promise.all(
      [oldest - 1, oldest].map((id) => stage.connect(path, payer.token, { 'Last-Event-ID': String(id) })),
    );
    await kept?.caughtUp();
    expect(kept?.ids).to.deep.equal(Array.from({ length: head - oldest }, (_, i) => oldest + 1 + i));
    expect(kept?.messages.map(({ type }) => type)).not.to.include('reset');
    if (gone === undefined) throw new Error('unreachable');
    await expectReset(gone, { reason: 'expired', requested: oldest - 1, oldest, cursor: head });
  });

  it('is reset as ahead when no such id was ever given out', async () => {
    const { cursor } = stage;
    const client = await stage.connect(path, payer.token, { 'Last-Event-ID': String(cursor + 1) });
    await expectReset(client, { reason: 'ahead', requested: cursor + 1, oldest: 0, cursor });
  });

  it('is not ahead at an id that was given out and rolled back', async () => {
    const writer = await stage.pool.connect();
    await writer.query('begin');
    await writer.query('select outbox_publish($1, $2, $3)', [topic, 'test:happened', '{}']);
    await writer.query('set constraints all immediate');
    await writer.query('rollback');
    writer.release();
    const client = await stage.connect(path, payer.token, { 'Last-Event-ID': String(stage.cursor + 1) });
    await client.caughtUp();
    expect(client.messages.map(({ type }) => type)).to.deep.equal(['session', 'caught-up']);
    await stage.publish(topic);
    await client.received(1);
  });

  it('is reset as epoch after a restore, and those connected are sent to ask again', async () => {
    const { cursor } = stage;
    const connected = await (await stage.connect(path, payer.token)).caughtUp();
    await stage.pool.query('select outbox_new_epoch()');
    const { rows } = await stage.pool.query('select epoch, first_id from outbox_meta');
    await connected.untilEnded();
    expect((await connected.message('disconnect')).data['reason']).to.equal('unavailable');
    expect(connected.lastEventId).to.equal(String(cursor));

    const back = await stage.connect(path, payer.token, { 'Last-Event-ID': String(cursor) });
    await expectReset(back, {
      reason: 'epoch',
      requested: cursor,
      oldest: rows[0].first_id,
      cursor: rows[0].first_id,
    });
    expect(back.messages[0]?.data['epoch']).to.equal(rows[0].epoch);
    expect(connected.messages[0]?.data['epoch']).not.to.equal(rows[0].epoch);
  });

  it('is reset as invalid for a header that is no cursor, since a 400 would stop an EventSource for good', async () => {
    const { cursor } = stage;
    const client = await stage.connect(path, payer.token, { 'Last-Event-ID': 'null' });
    await expectReset(client, { reason: 'invalid', requested: null, oldest: 0, cursor });
    for (const header of [
      '-1',
      '+1',
      '01',
      '1.0',
      '1e3',
      '0x10',
      '1, 2',
      '９',
      '9'.repeat(16),
      'a'.repeat(5000),
    ]) {
      const bad = await stage.connect(path, payer.token, { 'Last-Event-ID': encodeURI(header) });
      expect((await bad.message('reset')).data, header).to.include({ reason: 'invalid', requested: null });
    }
  });

  it('is refused with 400 for a query that is no cursor', async () => {
    for (const query of [
      '-1',
      '%2B1',
      '01',
      '1.0',
      '1e3',
      '0x10',
      'null',
      '9'.repeat(16),
      '1&lastEventId=1',
      '1%0A',
    ]) {
      const client = await stage.connect(`${path}?lastEventId=${query}`, payer.token);
      expect(client.status, query).to.equal(400);
      await client.untilEnded();
      expect(JSON.parse(client.raw), query).to.include({ code: 'invalid_cursor', status: 400 });
    }
  });
});
