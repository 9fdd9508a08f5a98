import { createRequire } from 'node:module';
import type { RequestHandler } from 'express';
import { asyncApi } from './asyncapi.ts';
import { openApi } from './openapi.ts';

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** `GET /openapi.json` and `GET /asyncapi.json`: made once, the same for everybody. */
export function documentRoute(name: 'openapi' | 'asyncapi'): RequestHandler {
  const body = JSON.stringify(name === 'openapi' ? openApi(version) : asyncApi(version));
  return (_request, response) => {
    response.setHeader('Cache-Control', 'no-cache');
    response.type('application/json').send(body);
  };
}
