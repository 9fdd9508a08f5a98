import { expect } from 'chai';
import { metric } from '../support/metrics.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, makeStream, type Person } from '../support/world.ts';

describe('the metrics', () => {
  let stage: Stage;
  let payer: Person;
  let topic: string;
  let past: number;

  before(async () => {
    stage = await Stage.open({ REPLAY_WINDOW_EVENTS: '4' });
    payer = await makePerson(stage.pool, 1);
    topic = `stream:${await makeStream(stage.pool, payer, payer)}`;
    past = await stage.settled();
  });

  after(() => stage.close());

  const value = (name: string) => metric(stage.service, `settlewire_${name}`);

  it('are on the admin port only, each with a type and a help text', async () => {
    const response = await fetch(`${stage.service.adminUrl}/metrics`);
    expect(response.headers.get('content-type')).to.match(/^text\/plain; version=0\.0\.4/);
    const lines = (await response.text()).split('\n');
    const names = new Set(
      lines.filter((line) => /^settlewire_\w/.test(line)).map((line) => /^\w+/.exec(line)?.[0] ?? ''),
    );
    expect(names).to.include.keys(
      'settlewire_subscribers',
      'settlewire_cursor',
      'settlewire_relay_lag_seconds',
    );
    const histograms = lines
      .filter((line) => line.endsWith(' histogram'))
      .map((line) => line.split(' ')[2] ?? '');
    for (const series of names) {
      const name = histograms.find((one) => series.replace(/_(bucket|sum|count)$/, '') === one) ?? series;
      expect(
        lines.some((line) => line.startsWith(`# HELP ${name} `) && line.endsWith('.')),
        name,
      ).to.equal(true);
      expect(
        lines.some((line) => line.startsWith(`# TYPE ${name} `)),
        name,
      ).to.equal(true);
    }
    expect(lines.some((line) => line.startsWith('process_resident_memory_bytes '))).to.equal(true);
    expect((await stage.send('GET', '/metrics')).status, 'on the public port').to.equal(404);
    expect((await fetch(`${stage.service.adminUrl}/v1/events`)).status).to.equal(404);
  });

  it('move with what happens', async () => {
    const connects = await value('connects_total');
    const pages = await value('replay_pages');
    const client = await (await stage.connect(`/v1/events?topic=${topic}`, payer.token)).caughtUp();
    expect(await value('connects_total')).to.equal(connects + 1);
    expect(await value('subscribers')).to.equal(1);
    expect(await value('topics')).to.be.at.least(1);

    const [events, reads] = [await value('relay_events'), await value('relay_reads')];
    const head = await stage.publish(topic, 6);
    await client.received(6);
    expect(await value('cursor')).to.equal(head);
    expect(await value('relay_events')).to.equal(events + 6);
    expect(await value('relay_reads')).to.be.greaterThan(reads);
    expect(await value('relay_lag_seconds')).to.be.within(0, 5);
    expect(await value('relay_batch_events_sum')).to.equal(await value('relay_events'));
    expect(await value('relay_batch_events_bucket{le="5"}'), 'six at once').to.be.below(
      await value('relay_batch_events_count'),
    );
    expect(await value('relay_dispatch_seconds_count')).to.equal(await value('relay_batch_events_count'));
    expect(await value('relay_dispatch_seconds_sum')).to.be.above(0);
    const modes = (await (await fetch(`${stage.service.adminUrl}/metrics`)).text()).match(
      /^settlewire_relay_mode\{.*1$/gm,
    );
    expect(modes, 'one mode at a time').to.have.length(1);
    expect(await value('relay_caught_up')).to.equal(1);
    expect(await value('replay_window_events')).to.equal(4);
    expect(await value('replay_window_bytes')).to.be.within(4 * 40, 4 * 200);
    expect(await value('replay_pages')).to.equal(pages);
    expect(await value('replay_waiting')).to.equal(0);
    expect(await value('database_waiting')).to.equal(0);
    await waitFor(async () => (await value('relay_asleep')) === 1, { what: 'a sleeping relay' });
    const rings = await value('relay_rings');
    await stage.publish(topic);
    expect(await value('relay_rings')).to.be.greaterThan(rings);

    const late = await stage.connect(`/v1/events?topic=${topic}`, payer.token, {
      'Last-Event-ID': String(past),
    });
    await late.caughtUp();
    expect(await value('replay_pages')).to.be.greaterThan(pages);
    const ahead = await stage.connect(`/v1/events?topic=${topic}`, payer.token, { 'Last-Event-ID': '99999' });
    await ahead.caughtUp();
    expect(await value('resets_total{reason="ahead"}')).to.equal(1);
    stage.closeClients();
    await waitFor(async () => (await value('subscribers')) === 0, { what: 'an empty hub' });
    expect(await value('topics')).to.equal(0);
  });

  it('count the whole time from an append to its dispatch, that of the commit too', async () => {
    const [all, quick] = ['relay_dispatch_seconds_count', 'relay_dispatch_seconds_bucket{le="0.2"}'] as const;
    const before = [await value(all), await value(quick)];
    // Time is the subject: what is counted must be longer than the bucket that it must not fall into.
    await stage.pool.query(
      "do $$ begin perform outbox_append('test:a', 'test:event', '{}'), pg_sleep(0.25); end $$",
    );
    await stage.settled();
    await waitFor(async () => (await value(all)) > Number(before[0]), { what: 'the batch to be counted' });
    expect([await value(all), await value(quick)]).to.deep.equal([Number(before[0]) + 1, before[1]]);
  });
});
