import { expect } from 'chai';
import { Pace } from '../../src/relay/pace.ts';

describe('the pace of a relay', () => {
  const options = { wakeRingsPerSecond: 100, sleepEventsPerSecond: 20 };

  it('is asleep at first, and stays so while rings come slowly', () => {
    const pace = new Pace(options, 0);
    expect(pace.awake).to.equal(false);
    for (let now = 200; now <= 2000; now += 200) pace.note(now, { rings: 20, events: 500, contended: false });
    expect(pace.awake, 'at 100 rings a second, however many events each brings').to.equal(false);
  });

  it('wakes up when rings come fast, once it has counted for long enough', () => {
    const pace = new Pace(options, 0);
    pace.note(100, { rings: 15, events: 15, contended: false });
    expect(pace.awake, 'too soon to tell').to.equal(false);
    pace.note(200, { rings: 6, events: 6, contended: false });
    expect(pace.awake, 'both reads count').to.equal(true);
  });

  it('wakes up at once after as many rings as a whole window may not have', () => {
    const pace = new Pace(options, 0);
    pace.note(10, { rings: 20, events: 20, contended: false });
    expect(pace.awake, 'as many as it may').to.equal(false);
    pace.note(11, { rings: 1, events: 1, contended: false });
    expect(pace.awake).to.equal(true);
  });

  it('judges by the rate: a long pause between two reads makes many rings few', () => {
    const pace = new Pace(options, 0);
    pace.note(2000, { rings: 50, events: 50, contended: false });
    expect(pace.awake).to.equal(false);
  });

  it('goes back to sleep only after events have been few for a second on end', () => {
    const pace = new Pace(options, 0);
    pace.note(200, { rings: 50, events: 50, contended: false });
    let now = 200;
    const windows = (count: number, events: number): void => {
      for (let n = 0; n < count; n += 1) {
        now += 200;
        pace.note(now, { rings: 0, events, contended: false });
      }
    };
    windows(4, 1);
    expect(pace.awake, 'quiet for 0.8 s').to.equal(true);
    windows(1, 4);
    windows(4, 1);
    expect(pace.awake, 'a busy moment starts the count anew').to.equal(true);
    windows(1, 1);
    expect(pace.awake).to.equal(false);
  });

  it('does not flutter: what keeps it awake is less than what wakes it', () => {
    const pace = new Pace(options, 0);
    pace.note(200, { rings: 50, events: 50, contended: false });
    for (let now = 400; now <= 4000; now += 200) pace.note(now, { rings: 0, events: 10, contended: false });
    expect(pace.awake).to.equal(true);
  });

  it('wakes up, and stays awake, while writers queue up behind one another, however few rings that makes', () => {
    const pace = new Pace(options, 0);
    const window = (from: number, reads: number, contended: number): void => {
      for (let n = 1; n <= reads; n += 1)
        pace.note(from + (n * 200) / reads, { rings: 1, events: 1, contended: n <= contended });
    };
    window(0, 10, 4);
    expect(pace.awake, 'most of them were alone').to.equal(false);
    window(200, 3, 3);
    expect(pace.awake, 'too few to tell').to.equal(false);
    window(400, 10, 5);
    expect(pace.awake).to.equal(true);
    for (let from = 600; from <= 4000; from += 200) window(from, 4, 4);
    expect(pace.awake, 'fewer events than would keep it awake alone').to.equal(true);
    for (let from = 4200; from <= 5000; from += 200) window(from, 3, 1);
    expect(pace.awake).to.equal(false);
  });

  it('lets polls pass without a look for writers while events flow, for 100 ms, and not after one that found nothing', () => {
    const pace = new Pace(options, 0);
    const look = (now: number, events: number): void =>
      pace.note(now, { rings: 0, events, contended: false });
    look(10, 5);
    expect(pace.flows(11), 'asleep').to.equal(false);
    pace.note(12, { rings: 50, events: 5, contended: false });
    expect(pace.awake).to.equal(true);
    expect(pace.flows(111)).to.equal(true);
    pace.note(111, { rings: 0, events: 1 });
    expect(pace.flows(112), 'only a look puts off the next').to.equal(false);
    look(112, 0);
    expect(pace.flows(113), 'a look that found nothing').to.equal(false);
    look(113, 1);
    expect(pace.flows(114)).to.equal(true);
    pace.note(118, { rings: 0, events: 0 });
    expect(pace.flows(119), 'a poll that found nothing').to.equal(false);
  });

  for (const poll of [5, 15, 20, 30, 39, 51])
    it(`is kept awake by a queue of writers, though only some polls look for them: one in ${poll} ms`, () => {
      const pace = new Pace({ wakeRingsPerSecond: 250, sleepEventsPerSecond: 100 }, 0);
      for (let now = 5; now <= 200; now += 5) pace.note(now, { rings: 1, events: 1, contended: true });
      expect(pace.awake).to.equal(true);
      let looks = 0;
      for (let now = 205; now < 10_000; now += poll) {
        if (pace.flows(now)) pace.note(now, { rings: 0, events: 1 });
        else {
          looks += 1;
          pace.note(now, { rings: 0, events: 1, contended: looks % 5 > 0 });
        }
        expect(pace.awake, `at ${now} ms`).to.equal(true);
      }
    });

  it('counts reads, not events: writers who queue up may append many in one transaction', () => {
    const pace = new Pace(options, 0);
    for (let now = 25; now <= 200; now += 25)
      pace.note(now, { rings: 1, events: 6, contended: now % 50 === 0 });
    expect(pace.awake).to.equal(true);
    const alone = new Pace(options, 0);
    for (let now = 20; now <= 200; now += 20)
      alone.note(now, { rings: 1, events: 6, contended: now % 100 < 40 });
    expect(alone.awake, 'most of them were alone').to.equal(false);
  });
});
