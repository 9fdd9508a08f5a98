const WIDTH = 720;
const HEIGHT = 260;
const MARGIN = { left: 56, right: 12, top: 12, bottom: 36 };

/** A line over time as an SVG; the y axis begins at 0. */
export function plot(
  points: readonly (readonly [number, number])[],
  labels: { readonly x: string; readonly y: string },
): string {
  const maxX = Math.max(...points.map(([x]) => x));
  const maxY = Math.max(...points.map(([, y]) => y)) * 1.15;
  const atX = (x: number): number => MARGIN.left + (x / maxX) * (WIDTH - MARGIN.left - MARGIN.right);
  const atY = (y: number): number =>
    HEIGHT - MARGIN.bottom - (y / maxY) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  const line = points.map(([x, y]) => `${atX(x).toFixed(1)},${atY(y).toFixed(1)}`).join(' ');
  const ticks = [0, 0.25, 0.5, 0.75, 1].flatMap((part) => [
    `<text x="${MARGIN.left - 8}" y="${(atY(maxY * part) + 4).toFixed(1)}" text-anchor="end">${Math.round(maxY * part)}</text>`,
    `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${atY(maxY * part).toFixed(1)}" y2="${atY(maxY * part).toFixed(1)}" stroke="#ddd"/>`,
    `<text x="${atX(maxX * part).toFixed(1)}" y="${HEIGHT - MARGIN.bottom + 16}" text-anchor="middle">${Math.round(maxX * part)}</text>`,
  ]);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="11" fill="#333">
<title>${labels.y} over ${labels.x}</title>
<rect width="100%" height="100%" fill="#fff"/>
${ticks.join('\n')}
<text x="${WIDTH / 2}" y="${HEIGHT - 4}" text-anchor="middle">${labels.x}</text>
<text transform="translate(14 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle">${labels.y}</text>
<polyline fill="none" stroke="#0b6" stroke-width="1.5" points="${line}"/>
</svg>
`;
}
