import { expect } from 'chai';
import express, { type Express, type RequestHandler } from 'express';
import request from 'supertest';
import { TopicError } from '../../src/access/topics.ts';
import { errorHandler } from '../../src/http/errors.ts';

describe('the answer to what a route throws', () => {
  let logged: object[];

  beforeEach(() => {
    logged = [];
  });

  function appWith(...handlers: RequestHandler[]): Express {
    const app = express();
    app.use(handlers);
    app.use(errorHandler({ error: (fields) => logged.push(fields) }));
    return app;
  }

  const throwing = (error: unknown): Express =>
    appWith(() => {
      throw error;
    });

  it('a body beyond the limit of its parser: payload_too_large', async () => {
    const app = appWith(express.json({ limit: 8 }));
    const { status, body } = await request(app)
      .post('/')
      .send({ much: 'x'.repeat(100) });
    expect([status, body.code]).to.deep.equal([413, 'payload_too_large']);
    expect(logged).to.deep.equal([]);
  });

  it('a body that is not what it says: bad_request', async () => {
    const app = appWith(express.json());
    const { status, body } = await request(app).post('/').type('json').send('{');
    expect([status, body.code]).to.deep.equal([400, 'bad_request']);
    expect(logged).to.deep.equal([]);
  });

  it('a topic that is none: invalid_topic, in the words of the error', async () => {
    const { status, body } = await request(throwing(new TopicError('no such kind'))).get('/');
    expect([status, body.code, body.detail]).to.deep.equal([400, 'invalid_topic', 'no such kind']);
  });

  it('anything else: unavailable, logged with its path, and nothing of it shown', async () => {
    for (const error of [
      new Error('password is hunter2'),
      Object.assign(new Error('password is hunter2'), { status: 500 }),
      Object.assign(new Error('password is hunter2'), { status: 302 }),
      Object.assign(new Error('password is hunter2'), { status: '400' }),
      'password is hunter2',
    ]) {
      logged = [];
      const { status, body, text, headers } = await request(throwing(error)).get('/some/path');
      expect([status, body.code]).to.deep.equal([503, 'unavailable']);
      expect(headers['retry-after']).to.equal('1');
      expect(text).not.to.contain('hunter2');
      expect(logged).to.deep.equal([{ err: error, path: '/some/path', requestId: '' }]);
    }
  });

  it('a failure in the middle of an answer cuts the connection, so that half is not taken for the whole', async () => {
    const app = appWith((_request, response) => {
      response.write('half of ');
      throw new Error('then it broke');
    });
    // Else Express prints the error.
    app.set('env', 'test');
    const error: unknown = await request(app)
      .get('/')
      .then(
        () => undefined,
        (reason: unknown) => reason,
      );
    expect(error).to.be.an('error').with.property('code', 'ECONNRESET');
    expect(logged).to.have.length(1);
  });
});
