import { parse as parseQuery } from 'node:querystring';
import cors, { type CorsOptions } from 'cors';
import express, { type Express } from 'express';
import helmet from 'helmet';
import { documentRoute } from '../contract/routes.ts';
import { CLIENT_FILE, dashboardRoutes } from '../dashboard/dashboard.ts';
import type { Context } from './context.ts';
import { cursorRoute } from './cursor.ts';
import { errorHandler, notFound, only } from './errors.ts';
import { eventsRoute, topicEventsRoute } from './events.ts';
import { spelling } from './parameters.ts';
import { refusalHandler } from './refusal.ts';
import { requestBodies } from './request-body.ts';
import { requestLog } from './request-log.ts';
import { closeSessionRoute, openSessionRoute } from './session.ts';
import { snapshotRoute } from './snapshot.ts';
import { ticketsRoute } from './tickets.ts';

/** The public routes (design section 6), each thin. */
export function createApp(context: Context): Express {
  const { config, log } = context;
  const app = express();
  app.disable('etag');
  // Unlike Express's own, without a bound on parameters: those beyond it were dropped. The request line has a bound.
  app.set('query parser', (text: string) => parseQuery(text, '&', '=', { maxKeys: 0 }));
  app.set('trust proxy', config.trustProxy);
  app.use(requestLog(log));
  // The page is served over plain http on loopback, where upgrading its requests would break it.
  app.use(
    helmet({
      contentSecurityPolicy: { directives: { upgradeInsecureRequests: null } },
      strictTransportSecurity: false,
    }),
  );

  app.use(requestBodies(config.maxBodyBytes));
  app.use(['/v1', CLIENT_FILE], cors(crossOrigin(config.corsOrigins)));
  app.use('/v1', spelling);

  app
    .route('/healthz')
    .get((_request, response) => void response.json({ status: 'alive' }))
    .all(only('GET', 'HEAD'));
  app
    .route('/readyz')
    .get((_request, response) => {
      const condition = context.condition();
      response.status(condition === 'ready' ? 200 : 503).json({ status: condition });
    })
    .all(only('GET', 'HEAD'));

  app.route('/v1/events').get(eventsRoute(context)).all(only('GET', 'HEAD'));
  app.route('/v1/streams/:id/events').get(topicEventsRoute(context, 'stream')).all(only('GET', 'HEAD'));
  app.route('/v1/escrows/:id/events').get(topicEventsRoute(context, 'escrow')).all(only('GET', 'HEAD'));
  // What the state of other people's tables is they must say themselves.
  if (config.authorizeFunction === null)
    app.route('/v1/snapshot').get(snapshotRoute(context)).all(only('GET', 'HEAD'));
  app.route('/v1/cursor').get(cursorRoute(context)).all(only('GET', 'HEAD'));
  app
    .route('/v1/session')
    .post(openSessionRoute(context))
    .delete(closeSessionRoute(context))
    .all(only('POST', 'DELETE'));
  app.route('/v1/tickets').post(ticketsRoute(context)).all(only('POST'));

  app.route('/openapi.json').get(documentRoute('openapi')).all(only('GET', 'HEAD'));
  app.route('/asyncapi.json').get(documentRoute('asyncapi')).all(only('GET', 'HEAD'));

  app.use(dashboardRoutes());
  app.use(notFound);
  app.use(refusalHandler(context));
  app.use(errorHandler(log, (code) => context.metrics.problem(code)));
  return app;
}

/** Pages of other origins, by allowlist. Without a list no header is sent, and browsers let nobody else read. */
function crossOrigin(origins: readonly string[]): CorsOptions {
  return {
    origin: [...origins],
    credentials: true,
    methods: ['GET', 'POST', 'DELETE'],
    allowedHeaders: ['Authorization', 'Last-Event-ID', 'Content-Type'],
    exposedHeaders: ['Last-Event-ID', 'Retry-After'],
    maxAge: 600,
  };
}
