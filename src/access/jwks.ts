import { createPublicKey, type KeyObject } from 'node:crypto';
import { JwksClient, type SigningKey } from 'jwks-rsa';
import { type IssuerKeys, KeysUnavailableError, type PublicAlgorithm } from './token.ts';

/*
 * The issuer's public keys (RFC 7517).
 *
 * The whole set is fetched at the start, every JWKS_CACHE_SECONDS, and when a token names a key that is not in it; but never
 * sooner than JWKS_COOLDOWN_SECONDS after the last attempt, so that tokens of made-up keys cannot make us flood the issuer. Nor
 * can they keep a new key out: whatever is fetched for a made-up one brings the new one along. (jwks-rsa's own cache and rate
 * limit go by key, where they could; it fetches and parses.)
 *
 * An attempt that fails, or that brings no usable key, changes nothing: the last good keys stay, however long the issuer is away.
 * Whoever comes with a key that is not among them meanwhile is told to come again, since nobody can tell whether it is good.
 */

export interface JwksOptions {
  readonly url: string;
  readonly cacheMs: number;
  readonly cooldownMs: number;
  readonly timeoutMs: number;
  /** Milliseconds; never goes back. */
  readonly clock: () => number;
  readonly onFailure: (error: unknown) => void;
}

interface IssuerKey {
  readonly algorithm: PublicAlgorithm;
  readonly kid: string | null;
  readonly key: KeyObject;
}

/** Far beyond any set of keys, in bytes. */
const MAX_BYTES = 1_048_576;
/** RFC 7518, 3.3. */
const MINIMUM_RSA_BITS = 2048;

export class Jwks implements IssuerKeys {
  readonly #options: JwksOptions;
  readonly #client: JwksClient;
  #keys: readonly IssuerKey[] = [];
  #fetchedAt: number | undefined;
  #triedAt = Number.NEGATIVE_INFINITY;
  #failing = true;
  #attempt: Promise<void> | undefined;
  #next: NodeJS.Timeout | undefined;
  #started = false;
  readonly #stopped = new AbortController();

  constructor(options: JwksOptions) {
    this.#options = options;
    this.#client = new JwksClient({
      jwksUri: options.url,
      cache: false,
      fetcher: (url) =>
        fetchKeys(url, AbortSignal.any([AbortSignal.timeout(options.timeoutMs), this.#stopped.signal])),
    });
  }

  /** Usable keys in the last good set. */
  get size(): number {
    return this.#keys.length;
  }

  /** Age of the last good set; NaN before the first. */
  get ageSeconds(): number {
    return this.#fetchedAt === undefined ? Number.NaN : (this.#options.clock() - this.#fetchedAt) / 1000;
  }

  /** Fetches now and then; waits for nothing. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    void this.#refresh();
  }

  /** For good: an attempt that is under way is given up. */
  async stop(): Promise<void> {
    this.#started = false;
    clearTimeout(this.#next);
    this.#stopped.abort();
    await this.#attempt;
  }

  async find(algorithm: PublicAlgorithm, kid: string | null): Promise<KeyObject | undefined> {
    const known = this.#lookUp(algorithm, kid);
    if (known !== undefined) return known;
    if (this.#options.clock() - this.#triedAt >= this.#options.cooldownMs) void this.#refresh();
    await this.#attempt;
    const found = this.#lookUp(algorithm, kid);
    if (found === undefined && this.#failing)
      throw new KeysUnavailableError('the JWKS endpoint cannot be reached');
    return found;
  }

  /** A token without a kid is checked with the only key of its algorithm, if there is but one. */
  #lookUp(algorithm: PublicAlgorithm, kid: string | null): KeyObject | undefined {
    const candidates = this.#keys.filter((key) => key.algorithm === algorithm);
    const found =
      kid === null && candidates.length === 1 ? candidates[0] : candidates.find((key) => key.kid === kid);
    return found?.key;
  }

  /** One attempt at a time; never rejects. */
  #refresh(): Promise<void> {
    this.#attempt ??= this.#fetch().finally(() => {
      this.#attempt = undefined;
      this.#triedAt = this.#options.clock();
      this.#schedule();
    });
    return this.#attempt;
  }

  async #fetch(): Promise<void> {
    try {
      const keys = (await this.#client.getSigningKeys()).flatMap(usable);
      if (keys.length === 0) throw new Error('none of the keys is for RS256 or ES256');
      this.#keys = keys;
      this.#fetchedAt = this.#options.clock();
      this.#failing = false;
    } catch (error) {
      this.#failing = true;
      if (!this.#stopped.signal.aborted) this.#options.onFailure(error);
    }
  }

  #schedule(): void {
    clearTimeout(this.#next);
    const { cacheMs, cooldownMs } = this.#options;
    if (this.#started)
      this.#next = setTimeout(() => void this.#refresh(), this.#failing ? cooldownMs : cacheMs).unref();
  }
}

/** What the kind of the key is for, whatever it says; nothing if it says that it is for something else, or is too weak. */
function usable(signingKey: SigningKey): IssuerKey[] {
  const key = createPublicKey(signingKey.getPublicKey());
  const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {};
  const algorithm =
    key.asymmetricKeyType === 'rsa' && modulusLength >= MINIMUM_RSA_BITS
      ? 'RS256'
      : namedCurve === 'prime256v1'
        ? 'ES256'
        : undefined;
  const said: string | undefined = signingKey.alg;
  if (algorithm === undefined || (said !== undefined && said !== algorithm)) return [];
  return [{ algorithm, kid: signingKey.kid ?? null, key }];
}

/** Redirects are not followed, and an answer without end is given up. */
async function fetchKeys(url: string, signal: AbortSignal): Promise<{ keys: unknown }> {
  const response = await fetch(url, { signal, redirect: 'error' });
  if (!response.ok) throw new Error(`the JWKS endpoint answered ${response.status}`);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > MAX_BYTES) throw new Error('the JWKS is too large');
    chunks.push(chunk);
  }
  return JSON.parse(Buffer.concat(chunks).toString());
}
