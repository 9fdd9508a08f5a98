import { createRequire } from 'node:module';
import { basename, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import express, { type Response, Router } from 'express';

const PAGE = fileURLToPath(new URL('./page/', import.meta.url));
/** `settlewire/client` as one file, for pages that have no build of their own. */
export const CLIENT_FILE = '/assets/client.js';
const UPLOT = ['uplot/dist/uPlot.esm.js', 'uplot/dist/uPlot.min.css'];

/**
 * The dashboard: the page at `/`, its files below `/assets/`, served as they are. Files may be kept by a browser but
 * are checked each time (`no-cache`), so that nobody runs last week's page against this week's service.
 * Whatever it does not have falls through to the next route.
 */
export function dashboardRoutes(): Router {
  const routes = Router();
  const { resolve } = createRequire(import.meta.url);

  routes.get('/', (_request, response, next) => {
    response.sendFile('index.html', { root: PAGE, cacheControl: false, headers: NO_CACHE }, (error) => {
      if (error && !response.headersSent) next(error);
    });
  });
  for (const name of UPLOT) {
    const path = resolve(name);
    routes.get(`/assets/${basename(path)}`, (_request, response, next) => {
      const options = { root: dirname(path), cacheControl: false, headers: NO_CACHE };
      response.sendFile(basename(path), options, (error) => {
        if (error && !response.headersSent) next(error);
      });
    });
  }
  routes.use(
    '/assets',
    express.static(PAGE, { index: false, redirect: false, cacheControl: false, setHeaders }),
  );
  return routes;
}

const NO_CACHE = { 'Cache-Control': 'no-cache' };

function setHeaders(response: Response): void {
  response.setHeader('Cache-Control', 'no-cache');
}
