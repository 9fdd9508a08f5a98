import { colour, redrawWithTheme } from './plot.js';
import uPlot from './uPlot.esm.js';

const SECONDS = 90;
const KEPT = 600;
/** When a row changed, by the events that say so. */
const TIMES = ['updatedAt', 'finishedAt', 'releasedAt', 'resolvedAt', 'respondedAt', 'readAt', 'createdAt'];
/** What is older was not changed just now: somebody recorded it later. */
const OLDEST_MS = 10_000;

/**
 * From the time in the row to this page, event by event. Both clocks are taken at their word, so on one machine it is exact to
 * a millisecond, and over a network as exact as the clocks agree.
 * @param {HTMLElement} parent takes the plot and gives it its size
 */
export function latencyPlot(parent) {
  let points = [];
  const plot = new uPlot(
    {
      width: parent.clientWidth || 200,
      height: parent.clientHeight || 64,
      padding: [8, 4, 7, 0],
      cursor: { show: false },
      select: { show: false },
      legend: { show: false },
      scales: {
        x: { time: false, range: [-SECONDS, 0] },
        // In steps of ten: one event that waited must not flatten all the others.
        y: { distr: 3, range: (_u, _min, max) => [1, (max ?? 0) > 100 ? 10_000 : 100] },
      },
      axes: [
        { show: false },
        {
          size: 34,
          gap: 4,
          font: '11px system-ui, sans-serif',
          stroke: () => colour('--ink-faint'),
          grid: { stroke: () => colour('--line'), width: 1 },
          ticks: { show: false },
          splits: (_u, _i, _min, max) => (max > 100 ? [1, 100, 10_000] : [1, 10, 100]),
          values: (_u, splits) => splits.map((it) => (it < 1_000 ? it : `${it / 1_000} s`)),
          filter: (_u, splits) => splits,
        },
      ],
      series: [
        {},
        {
          paths: () => null,
          points: {
            show: true,
            size: 4,
            width: 0,
            fill: () => colour('--accent'),
            stroke: () => colour('--accent'),
          },
        },
      ],
    },
    [[], []],
    parent,
  );
  redrawWithTheme(plot, parent);

  return {
    /** @param {{ data: any, at: number, live: boolean }} event */
    add({ data, at, live }) {
      const time = TIMES.map((key) => data[key]).find(Boolean);
      const ms = at - Date.parse(time ?? '');
      if (live && ms >= 0 && ms < OLDEST_MS) points = [...points.slice(1 - KEPT), { at, ms }];
    },
    /** Draws; once a second. @returns {string} the median, or nothing */
    tick() {
      const now = Date.now();
      points = points.filter(({ at }) => now - at < SECONDS * 1000);
      plot.setData([points.map(({ at }) => (at - now) / 1000), points.map(({ ms }) => Math.max(1, ms))]);
      const sorted = points.map(({ ms }) => ms).sort((a, b) => a - b);
      return sorted.length === 0 ? '–' : `${sorted[Math.floor(sorted.length / 2)]} ms`;
    },
  };
}
