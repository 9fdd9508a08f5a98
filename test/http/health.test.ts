import { expect } from 'chai';
import { Blockade } from '../support/blockade.ts';
import { makeService } from '../support/service.ts';
import { Stage } from '../support/stage.ts';
import { waitFor } from '../support/wait-for.ts';
import { makePerson, type Person } from '../support/world.ts';

describe('health and cursor', () => {
  let stage: Stage;
  let person: Person;

  before(async () => {
    stage = await Stage.open();
    person = await makePerson(stage.pool, 1);
  });

  after(() => stage.close());

  it('healthz says alive, readyz says ready, to anybody', async () => {
    for (const [path, status] of [
      ['/healthz', 'alive'],
      ['/readyz', 'ready'],
    ] as const) {
      const answer = await stage.send('GET', path);
      expect([answer.status, JSON.parse(answer.body)]).to.deep.equal([200, { status }]);
      expect((await stage.send('HEAD', path)).status).to.equal(200);
    }
  });

  it('cursor says where the stream is, to whoever may ask', async () => {
    const head = await stage.publish('stream:any', 3);
    const { rows } = await stage.pool.query('select epoch, outbox_oldest() as oldest from outbox_meta');
    const answer = await stage.send('GET', '/v1/cursor', { Authorization: `Bearer ${person.token}` });
    expect(answer.headers['cache-control']).to.equal('no-store');
    expect(JSON.parse(answer.body)).to.deep.equal({
      cursor: head,
      oldest: rows[0].oldest,
      epoch: rows[0].epoch,
    });
    expect((await stage.send('GET', '/v1/cursor')).status).to.equal(401);
  });

  it('is not ready, but alive, before it has been able to read', async () => {
    const service = makeService(stage.database.url, {
      LISTEN_DATABASE_URL: 'postgres://nobody@127.0.0.1:1/none',
    });
    const starting = service.start();
    const readyz = await waitFor(() => fetch(`${service.url}/readyz`), { what: 'a port' });
    expect([readyz.status, await readyz.json()]).to.deep.equal([503, { status: 'unavailable' }]);
    expect((await fetch(`${service.url}/healthz`)).status).to.equal(200);
    await service.stop();
    await starting;
  });

  it('answers what fails for reasons of its own with 503, and goes on', async () => {
    const blockade = await Blockade.of(stage.pool, 'users');
    const headers = { Authorization: `Bearer ${person.token}` };
    const asking = stage.send('POST', '/v1/session', headers);
    const [pid] = await blockade.waiting('with known');
    await stage.pool.query('select pg_terminate_backend($1)', [pid]);
    const answer = await asking;
    await blockade.lift();
    expect(answer.status).to.equal(503);
    expect(answer.headers['retry-after']).to.equal('1');
    expect(JSON.parse(answer.body)).to.include({ code: 'unavailable' });
    expect((await stage.send('POST', '/v1/session', headers)).status).to.equal(200);
  });

  it('does not start on a port that is taken, and stops all the same, twice', async () => {
    const service = makeService(stage.database.url, { PORT: new URL(stage.service.url).port });
    const outcome = await service.start().catch((error: NodeJS.ErrnoException) => error.code);
    expect(outcome).to.equal('EADDRINUSE');
    await Promise.all([service.stop(), service.stop()]);
  });

  it('sends the headers that keep a page from being framed or sniffed', async () => {
    const answer = await stage.send('GET', '/healthz');
    expect(answer.headers).to.include({ 'x-content-type-options': 'nosniff' });
    expect(answer.headers).not.to.have.any.keys('x-powered-by', 'etag');
  });
});
