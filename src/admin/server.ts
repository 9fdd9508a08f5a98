import { createServer, type Server } from 'node:http';
import express from 'express';
import type { Pool } from 'pg';
import type { Logger } from 'pino';
import type { StoredRevocation } from '../access/revocation.ts';
import type { Condition } from '../http/context.ts';
import { errorHandler, notFound, only } from '../http/errors.ts';
import { adminGuard } from './guard.ts';
import type { MetricsPage } from './process-metrics.ts';
import { revocationsRoute } from './revocations.ts';
import { type PageRequest, type SubscriptionPage, subscriptionsRoute } from './subscriptions.ts';

/** What operators ask of an instance, be it one process or several. */
export interface AdminSource {
  metrics(): Promise<MetricsPage>;
  subscriptions(page: PageRequest): Promise<SubscriptionPage>;
  /** Ends what a revocation concerns; resolves with whether it is in force everywhere here. */
  revoked(stored: readonly StoredRevocation[]): Promise<boolean>;
  readiness(): Promise<{ readonly status: Condition }>;
}

export interface AdminOptions {
  /** Without one only loopback is let in. */
  readonly token: string | null;
  readonly source: AdminSource;
  /** For revocations. */
  readonly pool: Pool;
  readonly log: Logger;
}

const MAX_BODY_BYTES = 16_384;

/** The operators' port: metrics, who is subscribed, revocations, readiness. Not started; on loopback unless told otherwise. */
export function createAdminServer({ token, source, pool, log }: AdminOptions): Server {
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  app.use(adminGuard(token));
  app
    .route('/metrics')
    .get(async (_request, response) => {
      const { contentType, body } = await source.metrics();
      response.setHeader('Content-Type', contentType);
      response.send(body);
    })
    .all(only('GET', 'HEAD'));
  app
    .route('/readyz')
    .get(async (_request, response) => {
      const readiness = await source.readiness();
      response.status(readiness.status === 'ready' ? 200 : 503).json(readiness);
    })
    .all(only('GET', 'HEAD'));
  app
    .route('/v1/subscriptions')
    .get(subscriptionsRoute((page) => source.subscriptions(page)))
    .all(only('GET', 'HEAD'));
  app
    .route('/v1/revocations')
    .post(
      express.json({ limit: MAX_BODY_BYTES }),
      revocationsRoute(pool, (stored) => source.revoked(stored)),
    )
    .all(only('POST'));
  app.use(notFound);
  app.use(errorHandler(log));
  return createServer(app);
}
