import { expect } from 'chai';
import request from 'supertest';
import type { Service } from '../../src/service.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { startService } from '../support/service.ts';

describe('cross-origin requests', () => {
  let database: TestDatabase;
  let service: Service;

  before(async () => {
    database = await createTestDatabase();
    service = await startService(database.url, { CORS_ORIGINS: 'https://app.example.com' });
  });

  after(async () => {
    await service.stop();
    await database.drop();
  });

  it('lets pages of a listed origin read, with credentials and the headers that the stream needs', async () => {
    const { headers } = await request(service.url)
      .options('/v1/events')
      .set({ Origin: 'https://app.example.com', 'Access-Control-Request-Method': 'GET' })
      .expect(204);
    expect(headers).to.include({
      'access-control-allow-origin': 'https://app.example.com',
      'access-control-allow-credentials': 'true',
      'access-control-allow-headers': 'Authorization,Last-Event-ID,Content-Type',
    });
    const answer = await request(service.url)
      .get('/v1/cursor')
      .set('Origin', 'https://app.example.com')
      .expect(401);
    expect(answer.headers['access-control-expose-headers']).to.equal('Last-Event-ID,Retry-After');
  });

  it('lets these pages import the client, and none of the dashboard', async () => {
    const from = { Origin: 'https://app.example.com' };
    const { headers } = await request(service.url).get('/assets/client.js').set(from).expect(200);
    expect(headers).to.include({ 'access-control-allow-origin': 'https://app.example.com' });
    expect(headers['content-type']).to.match(/^text\/javascript/);
    const { headers: others } = await request(service.url).get('/assets/app.js').set(from).expect(200);
    expect(others).not.to.have.property('access-control-allow-origin');
  });

  it('names no origin to pages of any other', async () => {
    for (const origin of ['https://app.example.com.evil.test', 'http://app.example.com', 'null']) {
      const { headers } = await request(service.url).get('/v1/cursor').set('Origin', origin);
      expect(headers, origin).not.to.have.property('access-control-allow-origin');
    }
  });
});
