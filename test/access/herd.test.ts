import { expect } from 'chai';
import { Blockade } from '../support/blockade.ts';
import { metric } from '../support/metrics.ts';
import { PoolQueries } from '../support/pool-queries.ts';
import type { SseClient } from '../support/sse-client.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makeEscrow, makePerson, type Person } from '../support/world.ts';

const PEOPLE = 30;
const STREAMS = 300;

describe('a herd that opens streams without resume tokens', () => {
  let stage: Stage;
  let queries: PoolQueries;
  const people: Person[] = [];
  const escrows: string[] = [];
  const cookies: string[] = [];

  before(async () => {
    queries = new PoolQueries();
    stage = await Stage.open();
    for (let n = 1; n <= PEOPLE; n += 1) {
      const person = await makePerson(stage.pool, n);
      people.push(person);
      escrows.push(await makeEscrow(stage.pool, person));
      const session = await stage.send('POST', '/v1/session', { Authorization: `Bearer ${person.token}` });
      cookies.push(String(session.headers['set-cookie']?.[0]).split(';')[0] ?? '');
    }
    await stage.settled();
  });
  after(async () => {
    queries.stop();
    await stage.close();
  });
  afterEach(() => stage.closeClients());

  const value = (name: string): Promise<number> => metric(stage.service, `settlewire_membership_${name}`);

  const herd = (): Promise<SseClient[]> =>
    Promise.all(
      Array.from({ length: STREAMS }, (_, n) =>
        stage.connect('/v1/events', undefined, { Cookie: cookies[n % PEOPLE] ?? '' }),
      ),
    );

  /** Two look-ups that wait in the database, for which others wait. */
  async function busyDatabase(): Promise<{ blockade: Blockade; busy: Promise<SseClient>[] }> {
    const blockade = await Blockade.of(stage.pool, 'outbox_revocations');
    const first = stage.connect('/v1/events', people[0]?.token);
    await blockade.waiting('with known', 1);
    const second = stage.connect('/v1/events', people[1]?.token);
    await blockade.waiting('with known', 2);
    return { blockade, busy: [first, second] };
  }

  async function expectOwn(clients: readonly SseClient[]): Promise<void> {
    for (const [n, client] of clients.entries()) {
      const { id, wallet } = people[n % PEOPLE] as Person;
      expect((await client.message('session')).data['topics']).to.have.members([
        `user:${id}`,
        `wallet:${wallet}`,
        `escrow:${escrows[n % PEOPLE]}`,
      ]);
    }
  }

  it('300 by cookie cost a few statements, and each is let in to what is theirs', async () => {
    const [lookUps, statements] = [await value('lookups'), await value('statements')];
    const { blockade, busy } = await busyDatabase();
    let clients: SseClient[] = [];
    const asked = await queries.during(async () => {
      const coming = herd();
      await waitFor(async () => (await value('lookups')) === lookUps + STREAMS + 2, {
        what: 'all to have asked',
      });
      await blockade.lift();
      clients = await coming;
    });
    await Promise.all(busy);
    await expectOwn(clients);
    // Two for whom the herd waits, and whoever came first when it was let go.
    expect((await value('statements')) - statements).to.be.within(5, 20);
    // What the service asks from time to time besides.
    expect(asked).to.be.below(60);
  });

  it('those who have gone while they waited are no trouble to the others', async () => {
    const { blockade, busy } = await busyDatabase();
    const gone = new AbortController();
    const leaving = Array.from({ length: 20 }, (_, n) =>
      fetch(`${stage.service.url}/v1/events`, {
        headers: { Cookie: cookies[n] ?? '' },
        signal: gone.signal,
      }).catch((error: Error) => error.name),
    );
    const staying = Array.from({ length: 10 }, (_, n) =>
      stage.connect('/v1/events', undefined, { Cookie: cookies[n] ?? '' }),
    );
    await waitFor(async () => (await value('waiting')) === 30, { what: 'thirty who wait' });
    gone.abort();
    expect(new Set(await Promise.all(leaving))).to.deep.equal(new Set(['AbortError']));
    await blockade.lift();
    await Promise.all(busy);
    await expectOwn(await Promise.all(staying));
    stage.closeClients();
    await waitFor(() => stage.service.hub.subscribers.size === 0, { what: 'an empty hub' });
    expect(await value('waiting')).to.equal(0);
  });

  it('one whose credential is revoked is refused among them', async () => {
    await stage.pool.query('select outbox_revoke(sub => $1)', [people[7]?.id]);
    const clients = await herd();
    const refused = clients.filter(({ status }) => status === 401);
    expect(refused.length).to.equal(STREAMS / PEOPLE);
    expect(clients.every(({ status }, n) => status === (n % PEOPLE === 7 ? 401 : 200))).to.equal(true);
  });
});
