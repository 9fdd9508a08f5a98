import type { Membership } from '../access/actor.ts';
import { digestOf } from '../access/resume-token.ts';
import type { Claims } from '../access/token.ts';
import type { Subscription } from '../hub/subscription.ts';
import type { Chunk } from '../sse/chunk.ts';
import { sessionFrame } from '../sse/frame.ts';
import { type Context, jitteredRetryMs } from './context.ts';

/** Most topics that `session` lists. */
const LISTED_TOPICS = 100;
/** Resume tokens are renewed after this part of their life, so that a client always has one that is good for a while. */
const RENEWED_AFTER = 1 / 3;

export interface SessionOptions {
  readonly claims: Claims;
  readonly membership: Membership;
  /** The topics asked for by name; undefined for a feed. */
  readonly named: readonly string[] | undefined;
  readonly subscription: Subscription;
}

/** What a stream's `session` block says; it is sent at the beginning, and again with a new resume token. */
export class SessionBlock {
  readonly #context: Context;
  readonly #options: SessionOptions;
  readonly #digest: string;
  #renewAt = 0;

  constructor(context: Context, options: SessionOptions) {
    this.#context = context;
    this.#options = options;
    this.#digest = digestOf(options.named);
  }

  /** Whether it is time to send it again: only if every topic that was asked for is still there. */
  get isDue(): boolean {
    const { named, subscription } = this.#options;
    return this.#context.now() >= this.#renewAt && (named === undefined || subscription.delivers(named));
  }

  /**
   * @param cursor what the client has, or is taken to have
   * @param asOf see {@link Resume}
   */
  encode(cursor: number, asOf: number): Chunk {
    const { config, hub, resumeTokens, now } = this.#context;
    const { claims, membership, named, subscription } = this.#options;
    const { actor, seesAll, own, credential } = membership;
    const { userId, walletAddress, role } = actor;
    const { epoch } = hub.history;
    const resume = resumeTokens.issue({
      claims,
      actor: { userId, walletAddress, role },
      seesAll,
      own,
      credentialTopics: credential.topics,
      epoch,
      topics: this.#digest,
      asOf,
    });
    this.#renewAt = now() + config.resumeSeconds * 1000 * RENEWED_AFTER;
    return sessionFrame(
      {
        cursor,
        epoch,
        topics: named?.slice(0, LISTED_TOPICS) ?? subscription.list(LISTED_TOPICS),
        heartbeatSeconds: config.heartbeatSeconds,
        resumeToken: resume.token,
        resumeExpiresAt: dateOf(resume.expiresAt),
        expiresAt: dateOf(claims.expiresAt),
      },
      jitteredRetryMs(this.#context),
    );
  }
}

function dateOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString();
}
