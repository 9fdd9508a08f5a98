import { expect } from 'chai';
import { migrate } from '../../src/migrate.ts';
import type { Service } from '../../src/service.ts';
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';
import { grantService } from '../support/service-role.ts';

describe('where a service listens', () => {
  let database: TestDatabase;
  let service: Service;

  afterEach(async () => {
    await service.stop();
    await database.drop();
  });

  for (const [host, url] of [
    ['127.0.0.1', /^http:\/\/127\.0\.0\.1:\d+$/],
    ['0.0.0.0', /^http:\/\/127\.0\.0\.1:\d+$/],
    ['::', /^http:\/\/127\.0\.0\.1:\d+$/],
    ['::1', /^http:\/\/\[::1\]:\d+$/],
  ] as const) {
    it(`HOST=${host}: its URL is one that can be called from here`, async () => {
      database = await createTestDatabase();
      service = await startService(database.url, { HOST: host });
      expect(service.url).to.match(url);
      expect((await fetch(`${service.url}/readyz`)).status).to.equal(200);
    });
  }

  it('MIGRATE=outbox: gets ready on a database that has the outbox alone', async () => {
    database = await createEmptyDatabase();
    await migrate({ connectionString: database.url, set: 'outbox' });
    await database.pool.query(
      `create function visible_topics(subject text, wallet text, role text) returns setof text language sql stable as 'select null::text'`,
    );
    await grantService(database.url);
    service = await startService(database.url, {
      MIGRATE: 'outbox',
      AUTHORIZE_FUNCTION: 'public.visible_topics',
    });
    expect(service.condition).to.equal('ready');
  });
});
