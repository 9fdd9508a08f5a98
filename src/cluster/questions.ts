import type { StoredRevocation } from '../access/revocation.ts';
import type { MetricFamily } from '../admin/process-metrics.ts';
import type { PageRequest, SubscriptionPage } from '../admin/subscriptions.ts';
import type { Condition } from '../http/context.ts';

/** What a supervisor asks of a worker: what comes with the question, and the answer. Anything may be answered with an error's message. */
export interface Questions {
  /** Answered when the worker is ready. */
  start: { given: StartOrder; answer: null };
  condition: { given: null; answer: Condition };
  metrics: { given: null; answer: readonly MetricFamily[] };
  subscriptions: { given: PageRequest; answer: SubscriptionPage };
  /** Whether they are in force in this worker. */
  revoked: { given: readonly StoredRevocation[]; answer: boolean };
  /** Answered when everybody has been sent away, with what the worker has counted in its life; it ends after that. */
  stop: { given: null; answer: readonly MetricFamily[] };
}

export interface StartOrder {
  readonly databaseUrl: string;
  /** Which worker it is. */
  readonly worker: number;
}

export type Question = keyof Questions;

/** From the supervisor. A connection comes with its socket. */
export type ToWorker =
  | {
      [Q in Question]: { kind: 'question'; number: number; question: Q; given: Questions[Q]['given'] };
    }[Question]
  | { kind: 'connection'; number: number };

/** From a worker. */
export type ToSupervisor =
  /** It listens from here on; what is said before is lost. */
  | { kind: 'here' }
  | { kind: 'answer'; number: number; answer: Questions[Question]['answer'] }
  /** With the code that Node or Postgres gave it, if any. */
  | { kind: 'error'; number: number; message: string; code: string | undefined }
  /** The connection is the worker's from here on. */
  | { kind: 'took'; number: number }
  /** So many connections have been closed. */
  | { kind: 'closed'; count: number };
