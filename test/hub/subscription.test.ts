import { expect } from 'chai';
import fc from 'fast-check';
import { type Request, Subscription } from '../../src/hub/subscription.ts';
import { encodeEvent } from '../../src/sse/frame.ts';

const OWN = ['user:me', 'wallet:mine'];
const OTHERS = ['escrow:1', 'escrow:2', 'stream:3'];

interface Happening {
  readonly on: string;
  readonly change: 'granted' | 'revoked' | 'none';
  readonly topic: string;
}

const happenings: fc.Arbitrary<Happening> = fc.record({
  on: fc.constantFrom(...OWN, ...OTHERS, 'user:other'),
  change: fc.constantFrom('granted', 'revoked', 'none'),
  topic: fc.constantFrom(...OTHERS),
});

function frame(id: number, { on, change, topic }: Happening) {
  const type = change === 'none' ? 'test:happened' : `access:${change}`;
  return encodeEvent({ id, topic: on, type, data: JSON.stringify({ topic }) });
}

describe('a subscription', () => {
  it('delivers what its actor could see at that place, and hears what could change that', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<Request['mode']>('feed', 'named', 'all'),
        fc.subarray([...OWN, ...OTHERS]),
        fc.subarray(OTHERS),
        fc.array(happenings, { maxLength: 30 }),
        fc.uniqueArray(fc.integer({ min: 1, max: 30 })),
        (mode, topics, more, history, known) => {
          const named = [...topics, ...more];
          const subscription = new Subscription({ mode, topics, named, own: OWN, known });
          const visible = new Set(topics);
          for (const [index, happening] of history.entries()) {
            const id = index + 1;
            const { on, change, topic } = happening;
            const wanted = mode === 'all' || visible.has(on);
            let ends = false;
            if (OWN.includes(on) && change === 'granted' && (mode !== 'named' || named.includes(topic)))
              visible.add(topic);
            if (OWN.includes(on) && change === 'revoked')
              ends = visible.delete(topic) && mode === 'named' && visible.size === 0 && !known.includes(id);
            const verdict = `${wanted ? 'deliver' : 'skip'}${ends ? '-and-end' : ''}`;
            expect(subscription.apply(frame(id, happening))).to.equal(verdict);
            if (ends) return;
            const heard = mode === 'all' ? 'all' : new Set([...visible, ...OWN]);
            expect(subscription.heard).to.deep.equal(heard);
            expect(subscription.list(100)).to.have.members(mode === 'all' ? ['*'] : [...visible]);
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('ends the session when the user is told that they are somebody else, unless that was known', () => {
    for (const mode of ['feed', 'named', 'all'] as const) {
      const request: Request = { mode, topics: ['escrow:1'], named: ['escrow:1'], own: OWN, known: [7] };
      const revoked = (id: number, on: string) => frame(id, { on, change: 'revoked', topic: 'user:me' });
      const subscription = new Subscription(request);
      expect(subscription.apply(revoked(7, 'user:me'))).to.equal(mode === 'all' ? 'deliver' : 'skip');
      expect(subscription.apply(revoked(8, 'user:other'))).to.equal(mode === 'all' ? 'deliver' : 'skip');
      expect(subscription.apply(revoked(9, 'wallet:mine'))).to.equal('end-session');
    }
  });

  it('ends when the last topic asked for by name is revoked, delivering that event only if it was asked for too', () => {
    const revoked = frame(8, { on: 'user:me', change: 'revoked', topic: 'escrow:1' });
    const named = (known: number[]) =>
      new Subscription({ mode: 'named', topics: ['escrow:1'], named: ['escrow:1'], own: OWN, known });
    expect(named([]).apply(revoked)).to.equal('skip-and-end');
    expect(named([8]).apply(revoked), 'known before the stream began').to.equal('skip');
    const both = new Subscription({
      mode: 'named',
      topics: ['user:me', 'escrow:1'],
      named: ['user:me', 'escrow:1'],
      own: OWN,
      known: [],
    });
    expect(both.apply(revoked), 'the own topic remains').to.equal('deliver');
  });
});
