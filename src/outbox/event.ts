/** One row of the outbox. */
export interface OutboxEvent {
  /** Its place in the order of events: a positive integer below 2^48, so that a JavaScript number holds it exactly. */
  readonly id: number;
  /** `kind:key`, such as `escrow:7f1d…`. */
  readonly topic: string;
  /** Such as `escrow:status_changed`. */
  readonly type: string;
  /** The payload: JSON on one line, passed on as the database has it. */
  readonly data: string;
}
