import { cpus, loadavg } from 'node:os';

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

/** The nearest-rank percentile; NaN of nothing. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] ?? Number.NaN;
}

/** Rows of text as a Markdown table; the first row is the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  const [heading = [], ...body] = rows;
  return [
    line(heading),
    `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`,
    ...body.map(line),
  ].join('\n');
}

/** A ratio beside its target, and whether it is met. */
export function judge(value: number, bound: 'at least' | 'at most', target: number): string {
  const met = bound === 'at least' ? value >= target : value <= target;
  return `${value.toFixed(2)} (${bound} ${target}: ${met ? 'met' : 'MISSED'})`;
}

/** What the figures came from; a load beyond ours says that others were at work too. */
export function machine(): string {
  return `${cpus().length} cores, load ${loadavg()[0]?.toFixed(1)}`;
}

/**
 * The Mann-Whitney test: whether one of two series tends to be larger. `chance` is the share of pairs that somebody guesses right
 * who calls the larger value the first series' (0.5: no better than a coin); `z` its distance from 0.5 in standard deviations.
 */
export function rankComparison(
  first: readonly number[],
  second: readonly number[],
): { chance: number; z: number } {
  const all = [
    ...first.map((value) => ({ value, own: true })),
    ...second.map((value) => ({ value, own: false })),
  ];
  all.sort((a, b) => a.value - b.value);
  let rankSum = 0;
  for (let from = 0; from < all.length; ) {
    let to = from;
    while (to < all.length && all[to]?.value === all[from]?.value) to += 1;
    // Equal values share the mean of their ranks.
    for (let at = from; at < to; at += 1) if (all[at]?.own) rankSum += (from + to + 1) / 2;
    from = to;
  }
  const [n, m] = [first.length, second.length];
  const chance = (rankSum - (n * (n + 1)) / 2) / (n * m);
  return { chance, z: (chance - 0.5) / Math.sqrt((n + m + 1) / (12 * n * m)) };
}
