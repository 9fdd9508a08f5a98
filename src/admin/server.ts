import { createServer, type Server } from 'node:http';
import express from 'express';
import type { Pool } from 'pg';
import type { Logger } from 'pino';
import { errorHandler, notFound, only } from '../http/errors.ts';
import type { Hub } from '../hub/hub.ts';
import { adminGuard } from './guard.ts';
import type { Metrics } from './metrics.ts';
import { revocationsRoute } from './revocations.ts';
import { type OpenStreams, subscriptionsRoute } from './subscriptions.ts';

export interface AdminOptions {
  /** Without one only loopback is let in. */
  readonly token: string | null;
  readonly metrics: Metrics;
  readonly hub: Hub;
  readonly pool: Pool;
  readonly streams: OpenStreams;
  readonly log: Logger;
}

const MAX_BODY_BYTES = 16_384;

/** The operators' port: metrics, who is subscribed, revocations. Not started; on loopback unless told otherwise. */
export function createAdminServer({ token, metrics, log, ...parts }: AdminOptions): Server {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  app.use(adminGuard(token));
  app
    .route('/metrics')
    .get(async (_request, response) => {
      const { contentType, body } = await metrics.render();
      response.setHeader('Content-Type', contentType);
      response.send(body);
    })
    .all(only('GET', 'HEAD'));
  app.route('/v1/subscriptions').get(subscriptionsRoute(parts)).all(only('GET', 'HEAD'));
  app
    .route('/v1/revocations')
    .post(express.json({ limit: MAX_BODY_BYTES }), revocationsRoute(parts))
    .all(only('POST'));
  app.use(notFound);
  app.use(errorHandler(log));
  return createServer(app);
}
