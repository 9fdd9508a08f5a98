// Money travels as decimal strings and is counted here in whole billionths, because a double
// cannot hold numeric(20,9) and a total that drifts in its last digit is worse than none.
const PLACES = 9;
const DECIMAL = /^(-?)(\d+)(?:\.(\d+))?$/;

/**
 * @param {string | null | undefined} text a decimal such as "12.5"
 * @returns {bigint | null} billionths, or null if the text is not a plain decimal
 */
export function toUnits(text) {
  const match = DECIMAL.exec(text ?? '');
  if (!match) return null;
  const [, sign, whole, fraction = ''] = match;
  const units = BigInt(whole + fraction.slice(0, PLACES).padEnd(PLACES, '0'));
  return sign ? -units : units;
}

/**
 * Splits an amount for display, truncated and never rounded up: nobody is shown money not yet theirs.
 * @param {bigint} units billionths
 * @param {number} decimals digits after the point, 0 to 9
 * @returns {{ whole: string, fraction: string }} such as { whole: "1,234", fraction: ".50" }
 */
export function split(units, decimals) {
  const negative = units < 0n;
  const digits = String(negative ? -units : units).padStart(PLACES + 1, '0');
  const whole = digits.slice(0, -PLACES).replace(/\B(?=(\d{3})+$)/g, ',');
  const fraction = decimals > 0 ? `.${digits.slice(-PLACES).slice(0, decimals)}` : '';
  return { whole: negative ? `-${whole}` : whole, fraction };
}

/**
 * @param {string | null | undefined} text a decimal string
 * @param {number} [decimals] digits after the point; trailing zeros beyond two are dropped when left out
 * @returns {string} the amount for reading, or an en dash when there is none
 */
export function amount(text, decimals) {
  const units = toUnits(text);
  if (units === null) return '–';
  const { whole, fraction } = split(units, decimals ?? PLACES);
  return whole + (decimals === undefined ? trimmed(fraction) : fraction);
}

function trimmed(fraction) {
  return fraction.slice(0, 3) + fraction.slice(3).replace(/0+$/, '');
}

/**
 * What a stream has earned since its last settlement, at the wall clock `now`.
 * @param {{ status: string, ratePerSecond: string, totalAmount: string | null, lastSettledAt: string | null,
 *   endTime: string | null, updatedAt: string }} stream
 * @param {number} now milliseconds since 1970, by the server's clock
 * @returns {bigint | null} billionths; null while the stream does not accrue
 */
export function accrued(stream, now) {
  const rate = toUnits(stream.ratePerSecond);
  if (stream.status !== 'active' || rate === null) return null;
  const from = Date.parse(stream.lastSettledAt ?? stream.updatedAt);
  const end = stream.endTime ? Date.parse(stream.endTime) : Number.POSITIVE_INFINITY;
  const elapsed = Math.max(0, Math.floor(Math.min(now, end) - from));
  const units = (rate * BigInt(elapsed)) / 1000n;
  const total = toUnits(stream.totalAmount);
  return total !== null && total > 0n && units > total ? total : units;
}
