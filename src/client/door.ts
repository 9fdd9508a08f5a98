import type { Reason } from './events.ts';

/**
 * Gives the present credential, or null if there is none.
 * @param why `rejected`: the last one has expired or was refused, so a cached one will not do
 */
export type GetCredential = (why: { rejected: boolean }) => string | null | Promise<string | null>;

/** How the client shows who it is: the session cookie, an access token in a header, or a ticket in the URL. */
export type Credentials = FullCredentials | { readonly ticket: GetCredential };

/** What also opens a snapshot: a ticket opens streams alone. */
export type FullCredentials = 'cookie' | { readonly bearer: GetCredential };

/** No answer that could be used. */
export class Refusal extends Error {
  override readonly name = 'Refusal';

  constructor(
    readonly reason: Reason,
    /** Asking again would be answered in the same way. */
    readonly final: boolean,
    /** How long the server wants to be left alone. */
    readonly retryAfterMs = 0,
  ) {
    super(`settlewire: ${reason}`);
  }
}

export interface Question {
  readonly path: string;
  readonly query: readonly (readonly [string, string])[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/** Asks the service, as somebody. A credential that is refused is replaced once. */
export class Door {
  readonly #base: string;
  readonly #credentials: Credentials;
  readonly #fetch: typeof fetch;
  /** The credential has ended, or the server says that it is worth nothing any more. */
  rejected = false;
  /** Lets a stream back in without another look at the credential; see docs/protocol.md. */
  resumeToken: string | undefined;

  constructor(url: string, credentials: Credentials, fetchWith?: typeof fetch) {
    this.#base = url.replace(/\/+$/, '');
    this.#credentials = credentials;
    // Browsers' fetch wants its own window as `this`.
    this.#fetch = fetchWith ?? ((input, init) => fetch(input, init));
  }

  /**
   * @param resume whether the resume token will do
   * @returns an answer of 200
   * @throws Refusal
   */
  async ask(question: Question, resume = false): Promise<Response> {
    let answer: Response | undefined;
    if (resume && this.resumeToken !== undefined && !this.rejected) {
      answer = await this.#send(question, ['resume', this.resumeToken], undefined);
      if (!isRefused(answer)) return accept(answer);
      this.resumeToken = undefined;
      await answer.body?.cancel();
    }
    answer = await this.#withCredential(question);
    if (answer.status === 401 && this.#credentials !== 'cookie') {
      this.rejected = true;
      await answer.body?.cancel();
      answer = await this.#withCredential(question);
    }
    this.rejected = false;
    return accept(answer);
  }

  async #withCredential(question: Question): Promise<Response> {
    const credentials = this.#credentials;
    if (credentials === 'cookie') return this.#send(question);
    const get = 'bearer' in credentials ? credentials.bearer : credentials.ticket;
    let credential: string | null;
    try {
      credential = await unlessAborted(get({ rejected: this.rejected }), question.signal);
    } catch {
      throw new Refusal('credential_failed', false);
    }
    if (credential === null) throw new Refusal('no_credential', true);
    return 'bearer' in credentials
      ? this.#send(question, undefined, credential)
      : this.#send(question, ['ticket', credential]);
  }

  async #send(
    { path, query, headers, signal }: Question,
    more?: readonly [string, string],
    bearer?: string,
  ): Promise<Response> {
    const parameters = new URLSearchParams();
    for (const [name, value] of more === undefined ? query : [...query, more]) parameters.append(name, value);
    const search = `${parameters}`;
    const init = {
      headers: { ...headers, ...(bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` }) },
      credentials: this.#credentials === 'cookie' ? ('include' as const) : ('omit' as const),
      cache: 'no-store' as const,
      signal,
    };
    try {
      return await this.#fetch(`${this.#base}${path}${search && `?${search}`}`, init);
    } catch {
      throw new Refusal('network', false);
    }
  }
}

/** 408 and 429 pass. */
function isRefused({ status }: Response): boolean {
  return status >= 400 && status < 500 && status !== 408 && status !== 429;
}

async function accept(answer: Response): Promise<Response> {
  if (answer.ok) return answer;
  const { status } = answer;
  const code = await codeOf(answer);
  // A proxy's 404 or 400 in the middle of a deploy is not our word on the matter.
  const final = isRefused(answer) && (code !== undefined || status === 401 || status === 403);
  throw new Refusal(code ?? `http_${status}`, final, secondsOf(answer.headers.get('Retry-After')) * 1000);
}

async function codeOf(answer: Response): Promise<Reason | undefined> {
  if (!answer.headers.get('Content-Type')?.startsWith('application/problem+json')) return undefined;
  try {
    return ((await answer.json()) as { code?: Reason }).code;
  } catch {
    return undefined;
  }
}

/** `Retry-After` as a number or as a date (RFC 9110, section 10.2.3). */
function secondsOf(header: string | null): number {
  if (header === null) return 0;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return seconds > 0 ? seconds : 0;
}

function unlessAborted<T>(promise: T | Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    Promise.resolve(promise).then(resolve, reject);
  });
}
