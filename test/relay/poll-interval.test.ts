import { expect } from 'chai';
import { pino } from 'pino';
import { Hub } from '../../src/hub/hub.ts';
import { PollInterval } from '../../src/relay/poll-interval.ts';
import { Relay } from '../../src/relay/relay.ts';
import { createTestDatabase } from '../support/database.ts';
import { append } from '../support/session.ts';
import { waitFor } from '../support/wait-for.ts';

describe('the interval of polls', () => {
  const interval = (): PollInterval => new PollInterval({ pollIntervalMs: 5, maxPollIntervalMs: 20 });
  const note = (of: PollInterval, count: number, answeredMs: (n: number) => number): void => {
    for (let n = 0; n < count; n += 1) of.note(answeredMs(n));
  };

  it('is the least one while polls are quick', () => {
    const polls = interval();
    expect(polls.currentMs).to.equal(5);
    note(polls, 100, (n) => (n === 0 ? 0.4 : 1));
    expect(polls.currentMs).to.equal(5);
  });

  it('grows while polls take longer than the quickest by more than an eighth of it, up to the most, and shrinks again', () => {
    const polls = interval();
    polls.note(0.4);
    note(polls, 100, () => 1.1);
    expect(polls.currentMs, 'until 0.7 ms are an eighth').to.be.within(5.3, 5.9);
    note(polls, 100, () => 1.65);
    expect(polls.currentMs, 'until 1.25 ms are an eighth').to.be.within(9.5, 10.5);
    note(polls, 100, () => 30);
    expect(polls.currentMs).to.equal(20);
    note(polls, 100, () => 1);
    expect(polls.currentMs).to.equal(5);
  });

  it('is what the median poll makes it: a few that hang change next to nothing', () => {
    const polls = interval();
    polls.note(0.4);
    note(polls, 1000, (n) => (n % 5 === 0 ? 500 : 0.9));
    expect(polls.currentMs).to.be.within(5, 5.3);
  });

  it('does not grow for what the network takes each time', () => {
    const polls = interval();
    note(polls, 1000, (n) => 30 + (n % 2) * 0.6);
    expect(polls.currentMs).to.equal(5);
  });

  it('knows the quickest poll however slow the first one was', () => {
    const polls = interval();
    polls.note(50);
    polls.note(0.4);
    note(polls, 100, () => 5);
    expect(polls.currentMs).to.equal(20);
  });

  it('ends with the poll, or when the poll has been followed by a rest as long, of the least interval at most', () => {
    const polls = interval();
    expect(polls.pauseAfter(1)).to.equal(4);
    expect(polls.pauseAfter(4)).to.equal(4);
    expect(polls.pauseAfter(0.5)).to.equal(4.5);
    expect(polls.pauseAfter(30)).to.equal(5);
    note(polls, 100, (n) => (n === 0 ? 1 : 30));
    expect(polls.currentMs).to.equal(20);
    expect(polls.pauseAfter(3)).to.equal(17);
    expect(polls.pauseAfter(19)).to.equal(5);
    expect(new PollInterval({ pollIntervalMs: 1, maxPollIntervalMs: 1 }).pauseAfter(0.5)).to.equal(1);
  });

  it('is never below the least one, even if the most is', () => {
    const polls = new PollInterval({ pollIntervalMs: 50, maxPollIntervalMs: 20 });
    note(polls, 100, (n) => (n === 0 ? 1 : 90));
    expect(polls.currentMs).to.equal(50);
  });

  it('does not grow for what it takes to hand on what a poll has found', async () => {
    const database = await createTestDatabase();
    let batches = 0;
    const relay = new Relay({
      connectionString: database.url,
      hub: new Hub({ maxEvents: 1000, maxBytes: 1_000_000 }),
      log: pino({ level: 'silent' }),
      batchEvents: 1000,
      pollIntervalMs: 100,
      maxPollIntervalMs: 1000,
      safetyPollMs: 600_000,
      timeoutMs: 10_000,
      wakeRingsPerSecond: 1,
      sleepEventsPerSecond: 1,
      stallAlertSeconds: 600,
      onDispatch() {
        batches += 1;
        const endsAt = performance.now() + (batches > 5 ? 60 : 0);
        while (performance.now() < endsAt);
      },
    });
    relay.start();
    try {
      const read = relay.stats.reads;
      await waitFor(
        async () => {
          await append(database.pool);
          return relay.mode === 'polling' && relay.stats.reads >= read + 40;
        },
        { what: '40 reads' },
      );
      // If that counted, it would be 480 ms.
      expect(relay.stats.pollIntervalMs).to.be.within(100, 150);
    } finally {
      await relay.stop();
      await database.drop();
    }
  });
});
