import uPlot from './uPlot.esm.js';

const SECONDS = 90;

/**
 * Events a second, over the last minute and a half.
 * @param {HTMLElement} parent takes the plot and gives it its size
 * @returns {{ count(): void, tick(): number }} `tick`, once a second, draws and gives the rate of the last full second
 */
export function ratePlot(parent) {
  const x = Array.from({ length: SECONDS }, (_, i) => i - SECONDS + 1);
  const y = new Array(SECONDS).fill(0);
  let current = 0;

  // Colours are functions, so that a redraw is enough when the person's light or dark preference changes.
  const plot = new uPlot(
    {
      width: parent.clientWidth || 200,
      height: parent.clientHeight || 64,
      padding: [8, 2, 7, 0],
      cursor: { show: false },
      select: { show: false },
      legend: { show: false },
      scales: { x: { time: false }, y: { range: (_u, _min, max) => [0, Math.max(4, max * 1.15)] } },
      axes: [
        { show: false },
        {
          size: 30,
          gap: 4,
          font: '11px system-ui, sans-serif',
          stroke: () => colour('--ink-faint'),
          grid: { stroke: () => colour('--line'), width: 1 },
          ticks: { show: false },
          splits: (_u, _i, _min, max) => [0, Math.floor(max / 2), Math.floor(max)],
        },
      ],
      series: [
        {},
        {
          stroke: () => colour('--accent'),
          fill: () => colour('--accent-wash'),
          width: 1.5,
          points: { show: false },
          paths: uPlot.paths.stepped?.({ align: 1 }),
        },
      ],
    },
    [x, y],
    parent,
  );

  redrawWithTheme(plot, parent);

  return {
    count() {
      current += 1;
    },
    tick() {
      const rate = current;
      current = 0;
      y.shift();
      y.push(rate);
      plot.setData([x, y]);
      return rate;
    },
  };
}

/** Keeps a plot as large as its parent, and in the colours of the day or the night. */
export function redrawWithTheme(plot, parent) {
  new ResizeObserver(() => {
    plot.setSize({ width: parent.clientWidth, height: parent.clientHeight });
  }).observe(parent);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => plot.redraw());
}

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}
