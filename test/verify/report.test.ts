import { expect } from 'chai';
import { type Following, makeFollowing } from '../../src/verify/following.ts';
import { makeReport } from '../../src/verify/report.ts';
import type { Written } from '../../src/verify/writers.ts';

const URL_OF_ONE = 'http://127.0.0.1:1';
const ROWS = [
  { id: 11, topic: 'user:a', number: 1 },
  { id: 12, topic: 'user:b', number: 2 },
  { id: 13, topic: 'user:a', number: 3 },
];

type Event = Following['events'][number];

function event(
  id: number,
  number: number,
  { at = 0, liveSince = undefined as number | undefined } = {},
): Event {
  return { id, number, data: '{}', at, liveSince };
}

function following(topic: string, events: readonly Event[]): Following {
  return { ...makeFollowing(URL_OF_ONE, { topic, token: '' }, { run: 'run', random: () => 0 }), events };
}

function written(committed: Iterable<readonly [number, number]>): Written {
  return { committed: new Map(committed), transactions: 3, rolledBack: 0, unsure: 0 };
}

const ALL = written([
  [1, 100],
  [2, 200],
  [3, 300],
]);

describe('the report of a verification', () => {
  it('is exact if each subscriber got every event of its own topic', () => {
    const followings = [
      following('user:a', [event(11, 1), event(13, 3)]),
      following('user:b', [event(12, 2)]),
    ];
    const report = makeReport('run', ALL, ROWS, [{ url: URL_OF_ONE, followings }]);
    expect(report).to.include({ written: 3, lost: 0, exact: true });
    expect(report.instances[0]).to.include({ subscribers: 2, delivered: 3, missed: 0, unexpected: 0 });
  });

  it('is not exact if nothing was written at all', () => {
    const report = makeReport('run', written([]), [], [{ url: URL_OF_ONE, followings: [] }]);
    expect(report).to.include({ written: 0, lost: 0, exact: false });
    expect(report.instances[0]?.latencyMs).to.deep.equal({ p50: null, p99: null });
  });

  it('counts what was committed and is not in the outbox', () => {
    const report = makeReport(
      'run',
      written([
        [1, 100],
        [4, 400],
      ]),
      ROWS.slice(0, 1),
      [{ url: URL_OF_ONE, followings: [following('user:a', [event(11, 1)])] }],
    );
    expect(report).to.include({ written: 1, lost: 1, exact: false });
  });

  it('another event under an id of the outbox is unexpected, and the one that belongs there is missed', () => {
    const report = makeReport('run', ALL, ROWS, [
      { url: URL_OF_ONE, followings: [following('user:a', [event(11, 3), event(13, 3)])] },
    ]);
    expect(report.instances[0]).to.include({ delivered: 1, missed: 1, unexpected: 1 });
    expect(report.exact).to.equal(false);
  });

  it('measures latency only of events that came live after a commit that it saw', () => {
    const events = [
      event(11, 1, { at: 104.26, liveSince: 50 }),
      event(12, 2, { at: 900, liveSince: 250 }),
      event(13, 3, { at: 900 }),
      event(14, 4, { at: 900, liveSince: 50 }),
    ];
    const report = makeReport('run', ALL, ROWS, [
      { url: URL_OF_ONE, followings: [following('user:a', events)] },
    ]);
    expect(report.instances[0]?.latencyMs).to.deep.equal({ p50: 4.3, p99: 4.3 });
  });

  it('an event that overtakes the return of its COMMIT took no time, not less than none', () => {
    const events = [event(11, 1, { at: 99, liveSince: 50 })];
    const report = makeReport('run', ALL, ROWS, [
      { url: URL_OF_ONE, followings: [following('user:a', events)] },
    ]);
    expect(report.instances[0]?.latencyMs).to.deep.equal({ p50: 0, p99: 0 });
  });
});
