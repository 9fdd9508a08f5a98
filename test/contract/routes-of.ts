import type { Router } from 'express';
import { pino } from 'pino';
import { parseConfig } from '../../src/config.ts';
import { createApp } from '../../src/http/app.ts';
import type { Context } from '../../src/http/context.ts';
import { JWT_SECRET } from '../support/tokens.ts';

/** `get /v1/events` and so on: the app's own routes, as Express has them; the dashboard's page, a router of its own, is not of the contract. */
export function routesOf(): string[] {
  // Routes are made without a look at the rest of the context.
  const context = {
    config: parseConfig({ DATABASE_URL: 'postgres://nobody@localhost/none', JWT_SECRET }),
    log: pino({ level: 'silent' }),
  } as Context;
  const { stack } = createApp(context).router as Router;
  return stack.flatMap(({ route }) => {
    if (route === undefined) return [];
    const methods = route.stack.map(({ method }) => method).filter((method) => method !== undefined);
    return methods.map((method) => `${method} ${route.path.replaceAll(/:(\w+)/g, '{$1}')}`);
  });
}
