import { expect } from 'chai';
import fc from 'fast-check';
import { type Membership, maySee, topicsAtCursor } from '../../src/access/actor.ts';
import type { Resume } from '../../src/access/resume-token.ts';
import { resumedMembership } from '../../src/access/resumed-membership.ts';
import { type AccessChange, EVERYBODY } from '../../src/outbox/access-change.ts';

const OWN = ['user:me', 'wallet:mine'];
const TOPICS = ['escrow:a', 'escrow:b', 'stream:c'];

interface Frame {
  readonly id: number;
  readonly topic: string;
  readonly access?: AccessChange;
}

const resume = (asOf: number): Resume => ({
  claims: {
    subject: 'me',
    walletAddress: null,
    role: null,
    tokenId: null,
    issuedAt: null,
    expiresAt: Number.MAX_SAFE_INTEGER,
  },
  actor: { userId: 'me', walletAddress: 'mine', role: 'USER' },
  seesAll: false,
  own: OWN,
  credentialTopics: ['user:me', 'token:one', EVERYBODY],
  epoch: 'e',
  topics: '',
  asOf,
});

/** A history of which the state is known at each place: what the database would say. */
class History {
  readonly frames: Frame[] = [];
  /** What the actor can see after so many frames. */
  readonly states: ReadonlySet<string>[] = [new Set()];

  constructor(steps: readonly (readonly [string, number])[]) {
    for (const [index, [topic, kind]] of steps.entries()) {
      const id = (index + 1) * 10;
      const state = new Set(this.states.at(-1));
      // Events that change nothing happen as well: a grant of what one has had on other grounds.
      const access =
        kind === 0
          ? undefined
          : ({ kind: kind === 1 ? 'granted' : 'revoked', topic } as const satisfies AccessChange);
      if (access?.kind === 'granted') state.add(topic);
      if (access?.kind === 'revoked') state.delete(topic);
      this.frames.push(access === undefined ? { id, topic } : { id, topic: OWN[index % 2] ?? '', access });
      this.states.push(state);
    }
  }

  after(cursor: number): Frame[] {
    return this.frames.filter(({ id }) => id > cursor);
  }

  /** What `lookUpMembership` would return. */
  lookedUp(cursor: number): Membership {
    return {
      actor: { userId: 'me', walletAddress: 'mine', role: 'USER', isActive: true },
      seesAll: false,
      own: OWN,
      topics: this.states.at(-1) ?? new Set(),
      credential: { topics: [], issuedAt: null },
      oldest: 0,
      changes: this.after(cursor).flatMap(({ id, access }) =>
        access === undefined ? [] : [{ id, ...access }],
      ),
    };
  }
}

describe('membership from a resume token', () => {
  it('is what the database would say, whatever happened, whatever the cursor', () => {
    const step = fc.tuple(fc.constantFrom(...TOPICS), fc.nat(2));
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 30 }),
        fc.nat(30),
        fc.nat(5),
        fc.nat(30),
        (steps, admitted, lag, from) => {
          const history = new History(steps);
          const at = Math.min(admitted, steps.length);
          // The stream was let in when the history had come to `at`; the relay had read a little less by then.
          const named = [...(history.states[at] ?? [])];
          const asOf = Math.max(0, at - lag) * 10;
          const cursor = Math.min(from, steps.length) * 10;
          const membership = resumedMembership(
            resume(asOf),
            named,
            cursor,
            history.after(Math.min(cursor, asOf)),
          );
          const truth = history.lookedUp(cursor);
          expect(membership?.changes).to.deep.equal(truth.changes);
          expect(membership?.own).to.deep.equal(OWN);
          if (membership === undefined) return;
          expect(maySee(membership, named)).to.equal(maySee(truth, named));
          const [resumed, looked] = [topicsAtCursor(membership), topicsAtCursor(truth)];
          for (const topic of named) expect(resumed.has(topic), topic).to.equal(looked.has(topic));
        },
      ),
      { numRuns: 2000 },
    );
  });

  const undecided: Record<string, AccessChange> = {
    'is somebody else now': { kind: 'revoked', topic: 'user:me' },
    'has become somebody': { kind: 'revoked', topic: 'user:other' },
    'has lost their wallet': { kind: 'revoked', topic: 'wallet:mine' },
    'has gained what is their own': { kind: 'granted', topic: 'wallet:mine' },
    'may have lost anything': { kind: 'unclear' },
  };
  for (const [what, access] of Object.entries(undecided)) {
    it(`is left to the database if the actor ${what}, on either side of asOf`, () => {
      const frames = [{ id: 10, topic: 'user:me', access }];
      for (const asOf of [0, 20])
        expect(resumedMembership(resume(asOf), ['escrow:a'], 0, frames)).to.equal(undefined);
      const others = [{ id: 10, topic: 'user:other', access }];
      expect(resumedMembership(resume(0), ['escrow:a'], 0, others), 'of others').not.to.equal(undefined);
    });
  }

  it('is left to the database if the credential may have been revoked, or if it concerns everybody', () => {
    const revoked = { kind: 'credentials-revoked', issuedBefore: 0 } as const;
    const everybody = { kind: 'revoked', topic: 'escrow:a' } as const;
    const of = (topic: string, access: AccessChange) =>
      resumedMembership(resume(0), ['escrow:a'], 0, [{ id: 10, topic, access }]);
    for (const topic of ['user:me', 'wallet:mine', 'token:one', EVERYBODY])
      expect(of(topic, revoked), topic).to.equal(undefined);
    expect(of('token:two', revoked)).not.to.equal(undefined);
    expect(of(EVERYBODY, everybody)).to.equal(undefined);
  });

  it('knows who sees all and what is the actor’s own as the database knew it, whatever the role says', () => {
    const of = (more: Partial<Resume>) => resumedMembership({ ...resume(0), ...more }, ['escrow:a'], 0, []);
    expect(of({ seesAll: true })).to.deep.include({ seesAll: true, own: OWN });
    const actor = { userId: 'me', walletAddress: 'mine', role: 'ADMIN' };
    expect(of({ actor, own: ['wallet:mine'] })).to.deep.include({ seesAll: false, own: ['wallet:mine'] });
  });
});
