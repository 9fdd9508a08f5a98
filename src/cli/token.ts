import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import jwt from 'jsonwebtoken';
import { mintAccessToken } from '../access/mint.ts';
import { isKey } from '../access/topics.ts';
import { type Config, ConfigError, parseConfig } from '../config.ts';
import { YOU } from '../demo/people.ts';
import { type Command, EXIT, readArguments, timeSpan, UsageError } from './command.ts';

const ROLES = ['USER', 'ADMIN', 'SUPER_ADMIN'];
const DAY = 86_400;

const HELP = `settlewire token: prints an access token for testing, signed as your backend would sign it.

Usage: settlewire token [options]

  --sub ID          Whom it speaks for: a user's id (uuid) or a wallet address.
                    Default, beside a serve that runs its own Postgres: whom the dashboard link signs in.
  --wallet ADDRESS  Their wallet. Counts only for a user that the database does not know.
  --role ROLE       USER, ADMIN or SUPER_ADMIN. Counts only for a user that the database does not know.
  --ttl TIME        How long it is good: 90s, 15m, 12h, 7d, 30d at most (1h).
  --kid KID         Which of JWT_SECRETS signs it. Default: JWT_SECRET, else the first.
  --force           Sign although the key looks like production's.
  --json            {"token","sub","walletAddress","role","jti","kid","expiresAt"}, null where there is none.
  --help            This text.

The key is that of serve: JWT_SECRET or JWT_SECRETS; without DATABASE_URL also DATA_DIR/jwt-secret, which serve has made.
JWT_ISSUER and JWT_AUDIENCE go into the token. It carries a jti of its own.

Whoever holds the key can be anybody, so a key that looks like production's is refused: if NODE_ENV is production, or
DATABASE_URL or LISTEN_DATABASE_URL names a host other than this machine.

Exit codes: 0 printed, 1 refused or no key, 2 the command line is wrong.
`;

export const tokenCommand: Command = {
  name: 'token',
  summary: 'Print an access token for testing.',
  help: HELP,
  run: async (args) => {
    process.stdout.write(mintToken(args));
    return EXIT.done;
  },
};

/**
 * @param environment undefined: the process's own
 * @returns what to print
 * @throws UsageError, ConfigError, or an Error of one line for a key that is refused
 */
export function mintToken(
  args: readonly string[],
  environment?: Readonly<Record<string, string | undefined>>,
): string {
  const { values } = readArguments('token', {
    args: [...args],
    options: {
      sub: { type: 'string' },
      wallet: { type: 'string' },
      role: { type: 'string' },
      ttl: { type: 'string' },
      kid: { type: 'string' },
      force: { type: 'boolean' },
      json: { type: 'boolean' },
    },
  });
  const ttl = timeSpan('--ttl', values.ttl, { fallback: 3600, most: 30 * DAY });
  for (const name of ['sub', 'wallet'] as const)
    if (values[name] !== undefined && !isKey(values[name]))
      throw new UsageError(
        `--${name}: ${JSON.stringify(values[name])} is neither a user id nor a wallet address`,
      );
  if (values.role !== undefined && !ROLES.includes(values.role))
    throw new UsageError(`--role: ${JSON.stringify(values.role)} is not one of ${ROLES.join(', ')}`);
  const config = parseConfig(environment, keptSecret);
  const [reason] = values.force === true ? [] : productionSigns(config);
  if (reason !== undefined)
    throw new Error(`refused: ${reason}, so the key looks like production's; --force signs all the same`);
  if (config.jwtSecrets.length === 0)
    throw new Error('JWT_SECRET: is not set; with JWKS_URL alone only your issuer can sign tokens');
  const sub = values.sub ?? (config.embedded ? YOU.userId : undefined);
  if (sub === undefined) throw new UsageError('--sub: is needed: a user id or a wallet address');
  const jti = randomUUID();
  const token = mintAccessToken(
    {
      sub,
      jti,
      ...(values.wallet === undefined ? {} : { walletAddress: values.wallet }),
      ...(values.role === undefined ? {} : { role: values.role }),
    },
    ttl,
    config,
    values.kid,
  );
  if (token === undefined)
    throw new UsageError(`--kid: JWT_SECRETS has no key ${JSON.stringify(values.kid)}`);
  return values.json === true ? `${JSON.stringify(describe(token))}\n` : `${token}\n`;
}

function describe(token: string): Record<string, string | null> {
  const { header, payload } = jwt.decode(token, { complete: true }) as jwt.Jwt & { payload: jwt.JwtPayload };
  return {
    token,
    sub: payload.sub ?? null,
    walletAddress: payload['walletAddress'] ?? null,
    role: payload['role'] ?? null,
    jti: payload.jti ?? null,
    kid: header.kid ?? null,
    expiresAt: new Date((payload.exp ?? 0) * 1000).toISOString(),
  };
}

/** Why the key may be production's, one line each. */
function productionSigns({ nodeEnv, databaseUrl, listenDatabaseUrl }: Config): string[] {
  const signs = nodeEnv === 'production' ? ['NODE_ENV is production'] : [];
  for (const [name, url] of Object.entries({
    DATABASE_URL: databaseUrl,
    LISTEN_DATABASE_URL: listenDatabaseUrl,
  })) {
    const elsewhere = url === null ? undefined : hostsOf(url).find((host) => !isThisMachine(host));
    if (elsewhere !== undefined) signs.push(`${name} names ${elsewhere}`);
  }
  return signs;
}

/** Every host that a connection string can name: libpq lets `?host=` overrule what stands before the path. */
function hostsOf(url: string): string[] {
  const { hostname, searchParams } = new URL(url);
  return [hostname, ...searchParams.getAll('host')].filter((host) => host !== '');
}

/** Loopback, or the directory of a socket. */
function isThisMachine(host: string): boolean {
  const name = decodeURIComponent(host);
  return name.startsWith('/') || /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/.test(name);
}

function keptSecret(dataDir: string): string {
  const path = join(dataDir, 'jwt-secret');
  try {
    return readFileSync(path, 'utf8');
  } catch {
    throw new ConfigError([
      `JWT_SECRET: is not set, and there is no ${path}: run settlewire serve, or set JWT_SECRET`,
    ]);
  }
}
