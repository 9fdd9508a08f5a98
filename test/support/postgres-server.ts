import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';

/** A running Postgres on which tests make databases of their own. */
export interface PostgresServer {
  /** Superuser's URL of a database that only serves to make others. */
  readonly url: string;
  readonly source: PostgresSource;
  readonly version: string;
  stop(): Promise<void>;
}

export type PostgresSource = 'url' | 'container' | 'embedded';
type Environment = Readonly<Record<string, string | undefined>>;

// Room for the pools of one file's tests; prepared transactions are off by default, and tests show why they should be.
const SERVER_SETTINGS = { max_connections: '300', max_prepared_transactions: '5' };

/** Starts, or finds, the server that TEST_POSTGRES names (design section 10). */
export async function startPostgresServer(environment: Environment): Promise<PostgresServer> {
  const source = await chooseSource(environment);
  const { url, stop } = await starters[source](environment);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ server_version: string }>('show server_version');
  await client.end();
  return { url, stop, source, version: rows[0]?.server_version ?? 'unknown' };
}

async function chooseSource(environment: Environment): Promise<PostgresSource> {
  const wanted = environment.TEST_POSTGRES;
  if (wanted === 'url' || wanted === 'container' || wanted === 'embedded') return wanted;
  if (wanted) throw new Error(`TEST_POSTGRES: "${wanted}" is not one of url, container, embedded`);
  if (environment.TEST_DATABASE_URL) return 'url';
  return (await dockerAnswers(environment.DOCKER_HOST)) ? 'container' : 'embedded';
}

const starters: Record<
  PostgresSource,
  (environment: Environment) => Promise<{ url: string; stop: () => Promise<void> }>
> = {
  async url({ TEST_DATABASE_URL: url }) {
    if (!url) throw new Error('TEST_POSTGRES=url needs TEST_DATABASE_URL, the URL of a superuser');
    return { url, stop: async () => {} };
  },

  async container({ POSTGRES_IMAGE: image = 'postgres:18-alpine' }) {
    const { PostgreSqlContainer } = await import('@testcontainers/postgresql');
    const flags = Object.entries(SERVER_SETTINGS).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    const container = await new PostgreSqlContainer(image).withCommand(['postgres', ...flags]).start();
    return {
      url: container.getConnectionUri(),
      stop: async () => {
        await container.stop();
      },
    };
  },

  async embedded() {
    const { startEmbeddedPostgres } = await import('../../src/embedded/embedded-postgres.ts');
    const dataDir = await mkdtemp(join(tmpdir(), 'settlewire-test-'));
    await chmod(dataDir, 0o755);
    const remove = () => rm(dataDir, { recursive: true, force: true });
    const server = await startEmbeddedPostgres({ dataDir, settings: SERVER_SETTINGS, log: () => {} }).catch(
      async (error: unknown) => {
        await remove();
        throw error;
      },
    );
    return {
      url: server.url,
      stop: async () => {
        await server.stop();
        await remove();
      },
    };
  },
};

function dockerAnswers(dockerHost = 'unix:///var/run/docker.sock'): Promise<boolean> {
  const target = dockerHost.startsWith('unix://')
    ? { socketPath: dockerHost.slice('unix://'.length) }
    : { host: new URL(dockerHost).hostname, port: new URL(dockerHost).port || 2375 };
  return new Promise((resolve) => {
    const ping = request({ ...target, path: '/_ping', timeout: 2000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    ping.on('timeout', () => ping.destroy());
    ping.on('error', () => resolve(false));
    ping.end();
  });
}
