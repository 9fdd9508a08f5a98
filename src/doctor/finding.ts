/** `warn`: it works, and will hurt one day. `fail`: it does not work, or loses something. */
export type Grade = 'ok' | 'warn' | 'fail';

/** One line of the doctor's. */
export interface Finding {
  /** What was looked at, in a word or two; the same in every run. */
  readonly check: string;
  readonly grade: Grade;
  readonly says: string;
  /** What to do; for whatever is not ok. */
  readonly advice?: string;
}

export function ok(check: string, says: string): Finding {
  return { check, grade: 'ok', says };
}

export function warn(check: string, says: string, advice: string): Finding {
  return { check, grade: 'warn', says, advice };
}

export function fail(check: string, says: string, advice: string): Finding {
  return { check, grade: 'fail', says, advice };
}

/** The worst of them; ok if there is none. */
export function worst(findings: readonly Finding[]): Grade {
  const grades = findings.map(({ grade }) => grade);
  return grades.includes('fail') ? 'fail' : grades.includes('warn') ? 'warn' : 'ok';
}
