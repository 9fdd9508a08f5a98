import { Client } from 'pg';
import type { Config } from '../config.ts';
import { whyNoConnection } from '../database-advice.ts';
import { pendingMigrations } from '../migrate.ts';
import { type Finding, fail, ok } from './finding.ts';
import { checkListen } from './listen.ts';
import { checkInstance, checkOpenFiles } from './machine.ts';
import { checkHorizon, checkInstances, checkPartitions, checkRetention, checkRights } from './outbox.ts';
import { checkServer } from './server.ts';
import { checkReplicationRole, gradeSettings, readSettings } from './settings.ts';
import { checkTriggers } from './triggers.ts';

export interface DoctorOptions {
  readonly config: Config;
  readonly databaseUrl: string;
  /** Instances to ask as well. */
  readonly urls: readonly string[];
  /** Milliseconds since 1970. */
  readonly now?: () => number;
  /** Between the two looks at who holds the horizon. */
  readonly settleMs?: number;
  /** For a NOTIFY to arrive. */
  readonly patienceMs?: number;
}

/** Looks at everything that the service needs, and tells each finding as soon as it has it. Changes nothing. */
export async function* examine(options: DoctorOptions): AsyncGenerator<Finding> {
  yield* await checkOpenFiles(options.config);
  for (const url of options.urls) yield await checkInstance(url);
  const client = new Client({
    connectionString: options.databaseUrl,
    application_name: 'settlewire doctor',
    connectionTimeoutMillis: 5000,
    query_timeout: 30_000,
  });
  client.on('error', () => {});
  try {
    const failure = await connect(client, options.databaseUrl);
    yield failure;
    if (failure.grade === 'ok') yield* database(client, options);
  } finally {
    await client.end().catch(() => {});
  }
}

async function connect(client: Client, databaseUrl: string): Promise<Finding> {
  const { host, pathname } = new URL(databaseUrl);
  const where = `${host || 'this machine'}${pathname}`;
  const startedAt = performance.now();
  try {
    await client.connect();
    await client.query('select 1');
    return ok('database', `${where}, reached in ${Math.round(performance.now() - startedAt)} ms`);
  } catch (error) {
    const { says, advice } = whyNoConnection(error);
    return fail('database', `${where} cannot be reached: ${says}`, advice);
  }
}

async function* database(client: Client, options: DoctorOptions): AsyncGenerator<Finding> {
  const { config, databaseUrl, now = Date.now, settleMs = 1000, patienceMs = 2000 } = options;
  // One check that cannot be done, for want of a right or of an answer, is a finding like any other.
  const checks: [string, () => Promise<Finding[]>][] = [
    [
      'server',
      () => checkServer(client, { workers: config.workers, poolSize: config.databasePoolSize, now }),
    ],
    ['settings', async () => gradeSettings(await readSettings(client))],
    ['settings', () => checkReplicationRole(client)],
    ['listen', () => checkListen(client, { url: config.listenDatabaseUrl ?? databaseUrl, patienceMs })],
  ];
  const outboxChecks: typeof checks = [
    ['rights', () => checkRights(client)],
    ['triggers', () => checkTriggers(client)],
    ['partitions', () => checkPartitions(client)],
    ['retention', () => checkRetention(client, config.retentionHours)],
    ['horizon', () => checkHorizon(client, settleMs)],
    ['instances', () => checkInstances(client)],
  ];
  for (const [name, check] of checks) yield* await attempt(name, check);
  const migrations = await checkMigrations(databaseUrl, config);
  yield migrations;
  if (migrations.grade === 'ok') for (const [name, check] of outboxChecks) yield* await attempt(name, check);
}

async function attempt(name: string, check: () => Promise<Finding[]>): Promise<Finding[]> {
  try {
    return await check();
  } catch (error) {
    return [fail(name, `cannot be looked at: ${(error as Error).message}`, 'ask as the role of the service')];
  }
}

async function checkMigrations(connectionString: string, { migrate }: Config): Promise<Finding> {
  const set = migrate === 'outbox' ? 'outbox' : 'all';
  try {
    const pending = await pendingMigrations({ connectionString, set });
    if (pending.length === 0) return ok('migrations', `all applied (${set})`);
    const hint = pending.every((name) => name.includes('_domain_'))
      ? '; with tables of your own set MIGRATE=outbox'
      : '';
    return fail('migrations', `to be applied: ${pending.join(', ')}`, `settlewire migrate${hint}`);
  } catch (error) {
    return fail(
      'migrations',
      (error as Error).message,
      'run it with the migrations of its own version, unchanged: install it anew',
    );
  }
}
