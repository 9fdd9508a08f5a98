import { createServer, type Server } from 'node:http';
import express from 'express';
import type { Metrics } from './metrics.ts';

/** The operators' port: metrics, for now. Not started; on loopback unless told otherwise. */
export function createAdminServer(metrics: Metrics): Server {
  const app = express();
  app.disable('x-powered-by');
  app.get('/metrics', async (_request, response) => {
    const { contentType, body } = await metrics.render();
    response.setHeader('Content-Type', contentType);
    response.send(body);
  });
  return createServer(app);
}
