import pg from 'pg';

/** Counts what the services of this process ask their pool for. Nothing is changed on the way. */
export class PoolQueries {
  readonly #connect = pg.Pool.prototype.connect;
  count = 0;

  /** @param applicationName of the pools that count */
  constructor(applicationName = 'settlewire') {
    const counter = this;
    const connect = this.#connect as (this: pg.Pool, ...rest: unknown[]) => unknown;
    // Every query of a pool, and everybody who takes a connection from it, comes through here.
    pg.Pool.prototype.connect = function (this: pg.Pool, ...rest: unknown[]) {
      if (this.options.application_name === applicationName) counter.count += 1;
      return connect.apply(this, rest);
    } as typeof pg.Pool.prototype.connect;
  }

  /** How many there were while it ran. */
  async during(action: () => Promise<unknown>): Promise<number> {
    const before = this.count;
    await action();
    return this.count - before;
  }

  stop(): void {
    pg.Pool.prototype.connect = this.#connect;
  }
}
