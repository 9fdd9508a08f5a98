import { expect } from 'chai';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { MetricFamily } from '../../src/admin/process-metrics.ts';
import { backoffMs } from '../../src/cluster/backoff.ts';
import { shareOf } from '../../src/cluster/share.ts';
import { Totals } from '../../src/cluster/totals.ts';
import { parseConfig } from '../../src/config.ts';

/** What a worker might count. */
async function figures(counted: number, worst: number): Promise<MetricFamily[]> {
  const registry = new Registry();
  const registers = [registry];
  const counter = new Counter({ registers, name: 'connects', help: 'c', labelNames: ['reason'] });
  counter.inc({ reason: 'a' }, counted);
  const histogram = new Histogram({ registers, name: 'seconds', help: 'h', buckets: [1, 2] });
  for (let n = 0; n < counted; n += 1) histogram.observe(1.5);
  new Gauge({ registers, name: 'open', help: 'g' }).set(counted);
  new Gauge({ registers, name: 'least', help: 'g', aggregator: 'min' }).set(worst);
  new Gauge({ registers, name: 'age', help: 'g', aggregator: 'max' }).set(worst);
  return registry.getMetricsAsJSON();
}

async function linesOf(registry: Registry): Promise<string[]> {
  return (await registry.metrics()).split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

describe('the totals of several workers', () => {
  it('add up counts, and take the worst of what cannot be added', async () => {
    const lines = await linesOf(new Totals().of([await figures(2, 7), await figures(3, 5)]));
    expect(lines).to.include.members([
      'connects{reason="a"} 5',
      'open 5',
      'least 5',
      'age 7',
      'seconds_bucket{le="2"} 5',
      'seconds_count 5',
    ]);
  });

  it('hold what those that have ended had counted, and nothing else of them', async () => {
    const totals = new Totals();
    totals.keep(await figures(2, 1));
    totals.keep(await figures(4, 1));
    totals.keep([]);
    expect(await linesOf(totals.of([await figures(1, 9)]))).to.include.members([
      'connects{reason="a"} 7',
      'open 1',
      'least 9',
      'seconds_bucket{le="2"} 7',
      'seconds_count 7',
    ]);
    expect(await linesOf(totals.of([])), 'nobody is alive').to.include('connects{reason="a"} 6');
  });

  it('say that an age is unknown if one of them does not know it', async () => {
    const lines = await linesOf(new Totals().of([await figures(1, Number.NaN), await figures(1, 3)]));
    expect(lines).to.include('age Nan');
  });
});

describe('the share of a worker', () => {
  it('is its part of what the instance may take, and all of what a client may', () => {
    const whole = parseConfig({
      WORKERS: '3',
      MAX_CONNECTIONS: '100',
      SNAPSHOT_CONCURRENCY: '2',
      REPLAY_CACHE_BYTES: '0',
    });
    const part = shareOf(whole);
    expect(part).to.include({
      maxConnections: 34,
      snapshotConcurrency: 1,
      replayCacheBytes: 0,
      replayConcurrency: 2,
    });
    const { maxConnectionsPerActor, connectRatePerMinute, replayWindowEvents, subscriberBufferBytes } = whole;
    expect(part).to.include({
      maxConnectionsPerActor,
      connectRatePerMinute,
      replayWindowEvents,
      subscriberBufferBytes,
    });
    expect(Object.isFrozen(part)).to.equal(true);
  });
});

describe('the pause before a worker is replaced', () => {
  it('doubles with each that died young, up to half a minute', () => {
    expect([1, 2, 3, 4].map(backoffMs)).to.deep.equal([100, 200, 400, 800]);
    expect([9, 10, 1000].map(backoffMs)).to.deep.equal([25_600, 30_000, 30_000]);
  });
});
