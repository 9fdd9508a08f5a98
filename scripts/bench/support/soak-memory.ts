import { readFileSync } from 'node:fs';
import { median } from './statistics.ts';

const MIB = 2 ** 20;

/** Resident memory of a process, in bytes; Linux only. */
export function residentBytes(pid: number): number {
  const kilobytes = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1024;
}

/** Memory over time. */
export class MemoryLog {
  readonly #samples: { readonly seconds: number; readonly mib: number }[] = [];

  note(seconds: number, bytes: number): void {
    this.#samples.push({ seconds, mib: bytes / MIB });
  }

  /** First quarter, last quarter, and the slope of the second half in MiB a minute (least squares): caches have filled by then. */
  describe(): string[] {
    const quarter = Math.max(1, Math.floor(this.#samples.length / 4));
    const part = (from: number, to?: number): string => {
      const values = this.#samples.slice(from, to).map(({ mib }) => mib);
      return [Math.min(...values), median(values), Math.max(...values)]
        .map((mib) => mib.toFixed(0))
        .join(' / ');
    };
    const half = this.#samples.slice(this.#samples.length / 2);
    const middle = (key: 'seconds' | 'mib'): number =>
      half.reduce((sum, sample) => sum + sample[key], 0) / half.length;
    const [seconds, mib] = [middle('seconds'), middle('mib')];
    const covariance = half.reduce((sum, s) => sum + (s.seconds - seconds) * (s.mib - mib), 0);
    const variance = half.reduce((sum, s) => sum + (s.seconds - seconds) ** 2, 0);
    return [part(0, quarter), part(-quarter), ((60 * covariance) / variance).toFixed(2)];
  }
}
